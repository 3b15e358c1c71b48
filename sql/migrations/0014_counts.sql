-- Counts what was stored before 0009 and 0012. It stays the last migration of its release: the functions that keep the
-- counts right come in its transaction, so nothing is sent between the two.

-- Reads go on meanwhile. Everything else waits, also `select … for update`: a sender who holds a row, and waits for the table,
-- would be a deadlock.
lock table conversations, members in exclusive mode;
-- Sorts all messages.
set local work_mem = '64MB';

update conversations c set listed_at = c.updated_at, message_count = x.count
from (
  select c.id, count(m.seq) from conversations c left join messages m on m.conversation_id = c.id group by c.id
) x
where x.id = c.id;

-- One pass over the messages and read positions of each conversation, in their order: what was counted before a position is
-- its `read_count`. A user who wrote something has read everything before it.
with written as (
  select x.conversation_id, x.author_id, max(x.seq) as last_seq, sum(octet_length(x.content)) as bytes
  from messages x where x.author_id is not null group by x.conversation_id, x.author_id
),
positions as (
  select m.conversation_id, m.user_id, greatest(m.last_read_seq, w.last_seq) as seq, coalesce(w.bytes, 0) as bytes
  from members m left join written w on w.conversation_id = m.conversation_id and w.author_id = m.user_id
),
counted as (
  select x.*, count(*) filter (where x.user_id is null) over (
    partition by x.conversation_id order by x.seq, x.user_id nulls first) as count
  from (
    select p.conversation_id, p.user_id, p.seq, p.bytes from positions p where p.seq > 0
    union all
    select m.conversation_id, null, m.seq, 0 from messages m
  ) x
)
update members m set last_read_seq = x.seq, read_count = x.count, written_bytes = x.bytes
from counted x where x.conversation_id = m.conversation_id and x.user_id = m.user_id;

update members m set is_creator = true from conversations c
where c.id = m.conversation_id and m.role = 'owner' and m.joined_at = c.created_at;

insert into member_activity (conversation_id, user_id, active_at)
select m.conversation_id, m.user_id, c.listed_at from members m join conversations c on c.id = m.conversation_id
on conflict do nothing;

update prompts p set versions = v.versions, stored_bytes = v.bytes
from (select prompt_id, count(*) as versions, sum(octet_length(template)) as bytes from prompt_versions group by prompt_id) v
where v.prompt_id = p.id;
