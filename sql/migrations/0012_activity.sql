-- What is unread, and the order of a list of conversations, at a cost that does not grow with what is stored
-- (docs/decisions/0063). No member can be read while a migration changes the table, so this one does nothing that grows
-- with it: 0015 checks the constraints, and counts what was stored before. It changes no other table that is in use: a reader
-- who has the one and waits for the other would be a deadlock.

-- Whether the member created the conversation, which then counts in their quota. The other members were added.
alter table members add column is_creator boolean not null default false;

-- Messages up to the read position: those after it are the difference to `message_count`.
alter table members add column read_count bigint not null default 0;
alter table members add constraint members_read_count check (read_count >= 0) not valid;
-- Bytes of what the member has written here. A send changes it together with the read position.
alter table members add column written_bytes bigint not null default 0;
alter table members add constraint members_written_bytes check (written_bytes >= 0) not valid;
-- A send changes the row of its sender: it has to stay heap-only.
alter table members set (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- Conversations with so many members that a job moves their rows, and not the send. Until then lists look here as well.
create table activity_moves (
  conversation_id uuid primary key,
  at              timestamptz not null
);
