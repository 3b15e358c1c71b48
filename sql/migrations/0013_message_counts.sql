-- The other table of docs/decisions/0063, apart from 0012 for the reasons that are given there.

-- All messages so far, deleted ones included. Only take_positions writes it, and older_instances.sql for older instances.
alter table conversations add column message_count bigint not null default 0;
alter table conversations add constraint conversations_message_count check (message_count >= 0) not valid;
-- The activity that members' lists know of (member_activity): less than a minute before `updated_at`. Only take_positions writes it.
alter table conversations add column listed_at timestamptz not null default now();
