-- For `CACHE_URL=db://`. `expires_at` is in Unix milliseconds; without it an entry lives until it is deleted or culled.
create table cache (
    key text not null primary key,
    value blob not null,
    expires_at bigint
);

create index cache_expires_at on cache (expires_at);
