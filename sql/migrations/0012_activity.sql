-- What is unread, and the order of a list of conversations, at a cost that does not grow with what is stored
-- (docs/decisions/0063).

-- All messages so far, deleted ones included. Only take_seqs writes it.
alter table conversations add column message_count bigint not null default 0 check (message_count >= 0);
-- The activity that members' lists know of (member_activity): less than a minute before `updated_at`. Only take_seqs writes it.
alter table conversations add column listed_at timestamptz not null default now();

-- Messages up to the read position: those after it are the difference to `message_count`.
alter table members add column read_count bigint not null default 0 check (read_count >= 0);
-- Bytes of what the member has written here. A send changes it together with the read position.
alter table members add column written_bytes bigint not null default 0 check (written_bytes >= 0);
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

-- What is unread does not count deleted messages.
create index messages_deleted on messages (conversation_id, seq) where deleted_at is not null;

-- What was stored before.
update conversations c set listed_at = c.updated_at, message_count = (
  select count(*) from messages x where x.conversation_id = c.id
);
-- Whoever wrote something has read what was before it.
update members m set last_read_seq = greatest(m.last_read_seq, w.last_seq), written_bytes = w.bytes
from (
  select x.conversation_id, x.author_id, max(x.seq) as last_seq, sum(octet_length(x.content)) as bytes
  from messages x where x.author_id is not null group by x.conversation_id, x.author_id
) w
where w.conversation_id = m.conversation_id and w.author_id = m.user_id;
update members m set read_count = (
  select count(*) from messages x where x.conversation_id = m.conversation_id and x.seq <= m.last_read_seq
)
where m.last_read_seq > 0;
insert into member_activity (conversation_id, user_id, active_at)
select m.conversation_id, m.user_id, c.listed_at from members m join conversations c on c.id = m.conversation_id;
