-- Tasks that arrive by a logical subscription. Its worker fires no triggers of a statement, but for `truncate` and the
-- first copy of a table, and triggers of a row only if they are enabled for replicas. `enable replica`: in all other
-- sessions these triggers do nothing and cost nothing, since those of 0003 and 0005 do the same there.
--
-- A subscriber keeps `list_state` and `task_counts` itself, so publish neither: `create publication … for table tasks`.

-- Names the table in full, as `tasks_will_change` does.
create function task_is_replicated() returns trigger language plpgsql as $$
begin
    execute format(
        'insert into %I.list_state as state (one) values (1) on conflict (one) do update set v = state.v + 1',
        tg_table_schema
    );
    return coalesce(new, old);
end
$$;

create trigger task_is_replicated
    before insert or update or delete on tasks
    for each row execute function task_is_replicated();

-- Counts the blocks again, as `tasks_have_changed` does.
create function task_was_replicated() returns trigger language plpgsql as $$
begin
    execute format(
        'insert into %1$I.task_counts as known (block, total)
         select block, (select count(*) from %1$I.tasks where id between block << 9 and (block << 9) + 511)
         from (select distinct id >> 9 as block from unnest($1) as id where id is not null) as touched
         on conflict (block) do update set total = excluded.total',
        tg_table_schema
    ) using array[new.id, old.id];
    execute format('delete from %I.task_counts where total = 0', tg_table_schema);
    return null;
end
$$;

create trigger task_was_replicated
    after insert or update or delete on tasks
    for each row execute function task_was_replicated();

alter table tasks enable replica trigger task_is_replicated;
alter table tasks enable replica trigger task_was_replicated;
