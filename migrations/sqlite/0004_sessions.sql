-- What is kept for visitors. `id` is a digest of the one in a visitor's cookie, `data` a JSON object, `expires_at` in Unix
-- milliseconds.
create table sessions (
    id text not null primary key,
    data text not null,
    expires_at bigint not null
);

create index sessions_expires_at on sessions (expires_at);
