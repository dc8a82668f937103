-- For Postgres only: SQLite has no replication in which triggers are left out. Both have the same numbers.
select 1;
