-- Which state the list of tasks is in: `v` counts its changes, `tok` is drawn anew with each. A count alone comes again
-- after a restored dump, a crash that lost the last commits, a copy that went its own way; the two together never name
-- other tasks. Without its row nobody can tell; `insert into list_state (one) values (1)` mends that.
create table list_state (
    one integer primary key check (one = 1),
    v bigint not null default 1,
    tok text not null default (lower(hex(randomblob(16)))) check (length(tok) = 32 and tok not glob '*[^0-9a-f]*')
);

-- Whoever writes the row gets a new token, also who brings an old row back.
create trigger list_state_inserted after insert on list_state begin
    update list_state set tok = lower(hex(randomblob(16)));
end;

create trigger list_state_counted after update of v on list_state begin
    update list_state set tok = lower(hex(randomblob(16)));
end;

insert into list_state (one) values (1);

-- One at a time writes, so ids are in the order of the commits by themselves.
create trigger tasks_inserted after insert on tasks begin
    insert into list_state (one) values (1) on conflict (one) do update set v = v + 1;
end;

create trigger tasks_updated after update on tasks begin
    insert into list_state (one) values (1) on conflict (one) do update set v = v + 1;
end;

create trigger tasks_deleted after delete on tasks begin
    insert into list_state (one) values (1) on conflict (one) do update set v = v + 1;
end;
