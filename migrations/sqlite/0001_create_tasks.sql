-- `autoincrement`: an id is never used twice, so whatever is cached under one can never be another task's.
create table tasks (
    id integer primary key autoincrement,
    name text not null
);
