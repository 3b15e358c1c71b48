-- What is unread, and the order of a list of conversations, at a cost that does not grow with what is stored
-- (docs/decisions/0063). This migration locks tables that are read all the time, so nothing in it grows with them: the
-- constraints are checked by 0013, and what was stored before is counted by 0014.

-- All messages so far, deleted ones included. Only take_positions writes it, and older_instances.sql for older instances.
alter table conversations add column message_count bigint not null default 0;
alter table conversations add constraint conversations_message_count check (message_count >= 0) not valid;
-- The activity that members' lists know of (member_activity): less than a minute before `updated_at`. Only take_positions writes it.
alter table conversations add column listed_at timestamptz not null default now();

-- Messages up to the read position: those after it are the difference to `message_count`.
alter table members add column read_count bigint not null default 0;
alter table members add constraint members_read_count check (read_count >= 0) not valid;
-- Bytes of what the member has written here. A send changes it together with the read position.
alter table members add column written_bytes bigint not null default 0;
alter table members add constraint members_written_bytes check (written_bytes >= 0) not valid;
-- A send changes the row of its sender: it has to stay heap-only.
alter table members set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The order of each user's list of conversations. Apart from `members`, whose updates stay heap-only. Rows come with members
-- (sql/functions/list_member.sql), and move when a conversation has been quiet for a minute or more.
create table member_activity (
  conversation_id uuid not null,
  user_id         uuid not null,
  active_at       timestamptz not null,
  primary key (conversation_id, user_id),
  foreign key (conversation_id, user_id) references members on delete cascade
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
create index member_activity_user on member_activity (user_id, active_at, conversation_id);

-- Conversations with so many members that a job moves their rows, and not the send. Until then lists look here as well.
create table activity_moves (
  conversation_id uuid primary key,
  at              timestamptz not null
);
