-- For `CACHE_URL=db://`. `expires_at` is in Unix milliseconds; without it an entry lives until it is deleted or culled.
--
-- `unlogged`: writes do not wait for the disk, and a crash or a failover empties the table. Losing a cache costs misses;
-- keeping half of it could bring back an old value. `collate "C"`: keys are compared as bytes, as in SQLite.
create unlogged table cache (
    key text collate "C" not null primary key,
    value bytea not null,
    expires_at bigint
);

create index cache_expires_at on cache (expires_at);
