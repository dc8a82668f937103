-- Which state the list of tasks is in: `v` counts its changes, `tok` is drawn anew with each. A count alone comes again
-- after a restored dump, a crash that lost the last commits, a copy that went its own way; the two together never name
-- other tasks. Without its row nobody can tell; `insert into list_state (one) values (1)` mends that.
create table list_state (
    one integer primary key check (one = 1),
    v bigint not null default 1,
    tok text not null check (tok ~ '^[0-9a-f]{32}$')
);

-- Whoever writes the row gets a new token, also who brings an old row back.
create function list_state_is_new() returns trigger language plpgsql as $$
begin
    new.tok := replace(gen_random_uuid()::text, '-', '');
    return new;
end
$$;

create trigger list_state_is_new
    before insert or update on list_state
    for each row execute function list_state_is_new();

insert into list_state (one) values (1);

-- Names the table in full: a dump is restored with an empty `search_path`, and a session may have a table of this name
-- for itself.
create function tasks_will_change() returns trigger language plpgsql as $$
begin
    execute format(
        'insert into %I.list_state as state (one) values (1) on conflict (one) do update set v = state.v + 1',
        tg_table_schema
    );
    return null;
end
$$;

-- Before the statement: the row's lock, which is held until the commit, is taken before an id is drawn, so ids are in
-- the order of the commits.
create trigger tasks_will_change
    before insert or update or delete or truncate on tasks
    for each statement execute function tasks_will_change();

-- Also in sessions that replay what happened elsewhere.
alter table list_state enable always trigger list_state_is_new;
alter table tasks enable always trigger tasks_will_change;
