-- How many tasks there are in each block of 512 ids, `id >> 9`, so that a page is found without counting all the tasks
-- before it. A block without tasks has no row. Should the table ever be wrong, this mends it: `begin immediate;
-- delete from task_counts; insert into task_counts select id >> 9, count(*) from tasks group by 1; commit`.
create table task_counts (
    block integer primary key,
    total integer not null
);

insert into task_counts (block, total) select id >> 9, count(*) from tasks group by 1;

-- Count the block again, rather than adding and subtracting: `insert or replace` removes a task without its trigger.
create trigger tasks_have_come after insert on tasks begin
    insert into task_counts (block, total)
    values (new.id >> 9, (select count(*) from tasks where id between new.id >> 9 << 9 and (new.id >> 9 << 9) + 511))
    on conflict (block) do update set total = excluded.total;
end;

create trigger tasks_have_gone after delete on tasks begin
    update task_counts
    set total = (select count(*) from tasks where id between old.id >> 9 << 9 and (old.id >> 9 << 9) + 511)
    where block = old.id >> 9;
    delete from task_counts where block = old.id >> 9 and total = 0;
end;

-- Not `of id`, which is also called `rowid`.
create trigger tasks_have_moved after update on tasks when new.id <> old.id begin
    insert into task_counts (block, total)
    values (new.id >> 9, (select count(*) from tasks where id between new.id >> 9 << 9 and (new.id >> 9 << 9) + 511))
    on conflict (block) do update set total = excluded.total;
    update task_counts
    set total = (select count(*) from tasks where id between old.id >> 9 << 9 and (old.id >> 9 << 9) + 511)
    where block = old.id >> 9;
    delete from task_counts where block = old.id >> 9 and total = 0;
end;
