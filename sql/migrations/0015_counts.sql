-- Counts what was stored before 0009, 0012 and 0013. It stays the last migration of its release: the functions that maintain
-- the counts are applied in its transaction, so nothing is sent in between.

-- Reads continue. Everything else waits, even `select … for update`: a sender who holds a row and waits for the table would
-- cause a deadlock.
lock table conversations, members in exclusive mode;
-- Memory for sorting all messages.
set local work_mem = '64MB';

update conversations c set listed_at = c.updated_at, message_count = x.count
from (
  select c.id, count(m.seq) from conversations c left join messages m on m.conversation_id = c.id group by c.id
) x
where x.id = c.id;

-- One pass over the messages and read positions of each conversation, in order: the count before a position is its
-- `read_count`. A user who wrote something has read everything before it.
with written as (
  select x.conversation_id, x.author_id, max(x.seq) as last_seq, sum(octet_length(x.content)) as bytes
  from messages x where x.author_id is not null group by x.conversation_id, x.author_id
),
positions as (
  select m.conversation_id, m.user_id, greatest(m.last_read_seq, w.last_seq) as seq, coalesce(w.bytes, 0) as bytes,
    m.role = 'owner' and m.joined_at = c.created_at as is_creator
  from members m
  join conversations c on c.id = m.conversation_id
  left join written w on w.conversation_id = m.conversation_id and w.author_id = m.user_id
),
counted as (
  select x.*, count(*) filter (where x.user_id is null) over (
    partition by x.conversation_id order by x.seq, x.user_id nulls first) as count
  from (
    select p.conversation_id, p.user_id, p.seq, p.bytes, p.is_creator from positions p
    union all
    select m.conversation_id, null, m.seq, 0, false from messages m
  ) x
)
update members m set last_read_seq = x.seq, read_count = x.count, written_bytes = x.bytes, is_creator = x.is_creator
from counted x
where x.conversation_id = m.conversation_id and x.user_id = m.user_id and (x.seq > 0 or x.is_creator);

-- The same for authors who are no longer members.
insert into former_members (conversation_id, user_id, last_read_seq, read_count, written_bytes)
select x.conversation_id, x.author_id, max(x.seq), max(x.count), sum(x.bytes)
from (
  select m.conversation_id, m.author_id, m.seq, octet_length(m.content) as bytes,
    row_number() over (partition by m.conversation_id order by m.seq) as count
  from messages m
) x
join users u on u.id = x.author_id
join conversations c on c.id = x.conversation_id and c.deleted_at is null
where not exists (select 1 from members o where o.conversation_id = x.conversation_id and o.user_id = x.author_id)
group by x.conversation_id, x.author_id;

-- The order of each user's list of conversations. Separate from `members`, whose updates stay heap-only. Rows are added with
-- members (sql/functions/list_member.sql), and move when a conversation becomes active after a minute or more. The keys are
-- added when it is full, which is ten times as fast.
create table member_activity (
  conversation_id uuid not null,
  user_id         uuid not null,
  active_at       timestamptz not null
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
insert into member_activity (conversation_id, user_id, active_at)
select m.conversation_id, m.user_id, c.listed_at from members m join conversations c on c.id = m.conversation_id;
alter table member_activity add primary key (conversation_id, user_id);
alter table member_activity add foreign key (conversation_id, user_id) references members on delete cascade;
create index member_activity_user on member_activity (user_id, active_at, conversation_id);

update prompts p set versions = v.versions, stored_bytes = v.bytes
from (select prompt_id, count(*) as versions, sum(octet_length(template)) as bytes from prompt_versions group by prompt_id) v
where v.prompt_id = p.id;

alter table conversations validate constraint conversations_message_count;
alter table members validate constraint members_read_count;
alter table members validate constraint members_written_bytes;
