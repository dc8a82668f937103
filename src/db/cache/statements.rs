//! SQL statements of the cache's table, per database where they differ.
//!
//! An operation on many keys is one statement: the keys are one argument, an array in JSON. Values are one as well, all
//! of them in a row, of which each key has a part. `$n` is the time in Unix milliseconds where `expires_at` meets it.

/// One statement in each database.
pub(super) struct Statement {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

const fn same(sql: &'static str) -> Statement {
    Statement { sqlite: sql, postgres: sql }
}

// In SQLite a value that was stored by hand may be a text.
pub(super) const GET: Statement = Statement {
    sqlite: "select cast(value as blob) from cache where key = $1 and (expires_at is null or expires_at > $2)",
    postgres: "select value from cache where key = $1 and (expires_at is null or expires_at > $2)",
};

// In Postgres as an array, which lets the index be used however few keys it believes there to be.
pub(super) const GET_MANY: Statement = Statement {
    sqlite: "select key, cast(value as blob) from cache where key in (select value from json_each($1)) \
             and (expires_at is null or expires_at > $2)",
    postgres: "select key, value from cache \
               where key = any (array(select jsonb_array_elements_text($1::jsonb))) \
               and (expires_at is null or expires_at > $2)",
};

// SQLite makes null of no bytes, and would take `on` for that of a join without the `where` before it.
pub(super) const SET_MANY: Statement = Statement {
    sqlite: "insert into cache (key, value, expires_at) \
             select entry.value ->> 0, \
                    coalesce(substr($2, entry.value ->> 1, entry.value ->> 2), x''), $3 \
             from json_each($1) as entry where true \
             on conflict (key) do update set value = excluded.value, expires_at = excluded.expires_at",
    postgres: "insert into cache (key, value, expires_at) \
               select entry ->> 0, substr($2, (entry ->> 1)::int, (entry ->> 2)::int), $3 \
               from jsonb_array_elements($1::jsonb) as entry \
               on conflict (key) do update set value = excluded.value, expires_at = excluded.expires_at",
};

pub(super) const ADD: Statement = same(
    "insert into cache (key, value, expires_at) values ($1, $2, $3) \
     on conflict (key) do update set value = excluded.value, expires_at = excluded.expires_at \
     where cache.expires_at <= $4 returning 1",
);

pub(super) const REPLACE: Statement = same(
    "update cache set value = $2, expires_at = $3 \
     where key = $1 and (expires_at is null or expires_at > $4) returning 1",
);

pub(super) const TOUCH: Statement = same(
    "update cache set expires_at = $2 \
     where key = $1 and (expires_at is null or expires_at > $3) returning 1",
);

pub(super) const SWAP: Statement = same(
    "update cache set value = $3 \
     where key = $1 and value = $2 and (expires_at is null or expires_at > $4) returning 1",
);

// In Postgres rows are locked in the order of their keys, here and in `SET_MANY`: two that want the same rows wait for
// one another and never crosswise.
pub(super) const DELETE_MANY: Statement = Statement {
    sqlite: "delete from cache where key in (select value from json_each($1)) \
             returning key, (expires_at is null or expires_at > $2)",
    postgres: "delete from cache where key in (select key from cache \
               where key = any (array(select jsonb_array_elements_text($1::jsonb))) order by key for update) \
               returning key, (expires_at is null or expires_at > $2)",
};

// Takes as long for many entries as for few, and gives the room back.
pub(super) const CLEAR: Statement = Statement { sqlite: "delete from cache", postgres: "truncate cache" };

pub(super) const SIZE: Statement = same(
    "select count(*), cast(coalesce(sum(octet_length(key) + octet_length(value)), 0) as bigint) \
     from cache where expires_at is null or expires_at > $1",
);

// Rows that another transaction is writing are left to the next culling, so that no row is waited for.
pub(super) const REMOVE_EXPIRED: Statement = Statement {
    sqlite: "delete from cache where key in \
             (select key from cache where expires_at <= $1 limit $2) returning 1",
    postgres: "delete from cache where key in \
               (select key from cache where expires_at <= $1 limit $2 for update skip locked) \
               and expires_at <= $1 returning 1",
};

// SQLite has null before all numbers, and reads both from the index; Postgres reads them from it one after the other.
pub(super) const REMOVE_FIRST: Statement = Statement {
    sqlite: "delete from cache where key in (select key from cache order by expires_at limit $1) \
             returning octet_length(key) + octet_length(value)",
    postgres: "delete from cache where key in (select key from cache where key in (select key from \
                 ((select key from cache where expires_at is null limit $1) union all \
                  (select key from cache where expires_at is not null order by expires_at limit $1)) as first \
                 limit $1) for update skip locked) \
               returning cast(octet_length(key) + octet_length(value) as bigint)",
};
