-- How many tasks there are in each block of 512 ids, `id >> 9`, so that a page is found without counting all the tasks
-- before it. A block without tasks has no row. Should the table ever be wrong, this mends it:
-- `begin; lock tasks; delete from task_counts; insert into task_counts select id >> 9, count(*) from tasks group by 1;
-- commit`.
create table task_counts (
    block bigint primary key,
    total integer not null
);

-- Nobody writes between the first count and the triggers.
lock table tasks in share row exclusive mode;

insert into task_counts (block, total) select id >> 9, count(*) from tasks group by 1;

-- Counts the blocks that were touched again, rather than adding and subtracting: what is counted is right whatever stood
-- there before, as when a dump brings tasks and their counts to where triggers are at work already. Names the tables in
-- full, as `tasks_will_change` does.
create function tasks_have_changed() returns trigger language plpgsql as $$
declare
    ids text := case tg_op
        when 'INSERT' then 'select id from come'
        when 'DELETE' then 'select id from gone'
        else '(select id from come except select id from gone) union all (select id from gone except select id from come)'
    end;
begin
    if tg_op = 'TRUNCATE' then
        execute format('delete from %I.task_counts', tg_table_schema);
        return null;
    end if;
    execute format(
        'insert into %1$I.task_counts as known (block, total)
         select block, (select count(*) from %1$I.tasks where id between block << 9 and (block << 9) + 511)
         from (select distinct id >> 9 as block from (%2$s) as changed) as touched
         on conflict (block) do update set total = excluded.total',
        tg_table_schema, ids
    );
    if tg_op <> 'INSERT' then
        execute format('delete from %I.task_counts where total = 0', tg_table_schema);
    end if;
    return null;
end
$$;

-- After the statement, and so under the lock that `tasks_will_change` has taken: one at a time counts.
create trigger tasks_have_come
    after insert on tasks referencing new table as come
    for each statement execute function tasks_have_changed();

create trigger tasks_have_gone
    after delete on tasks referencing old table as gone
    for each statement execute function tasks_have_changed();

create trigger tasks_have_moved
    after update on tasks referencing old table as gone new table as come
    for each statement execute function tasks_have_changed();

create trigger tasks_are_none
    after truncate on tasks
    for each statement execute function tasks_have_changed();

-- Also in sessions that replay what happened elsewhere.
alter table tasks enable always trigger tasks_have_come;
alter table tasks enable always trigger tasks_have_gone;
alter table tasks enable always trigger tasks_have_moved;
alter table tasks enable always trigger tasks_are_none;
