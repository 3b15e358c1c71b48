-- The messages of a conversation, with what is needed to follow a branch. An answer in progress is not shown to models, so
-- its text is not needed here.
create or replace view path_messages as
select x.conversation_id, x.id, x.seq, x.role, u.display_name as author_name, x.content, x.parent_id, p.seq as parent_seq,
  case when x.role = 'assistant' and x.seq > p.seq + 1 then (
    select min(s.seq) from messages s
    where s.conversation_id = x.conversation_id and s.parent_id = x.parent_id and s.role = 'assistant'
  ) end as first_answer_seq,
  x.deleted_at is null and x.content <> '' and x.status in ('complete', 'cancelled')
    and x.role in ('system', 'user', 'assistant') as is_shown
from messages x
-- A subquery with a limit is planned by itself, see send_messages.
left join lateral (
  select m.seq from messages m where m.conversation_id = x.conversation_id and m.id = x.parent_id limit 1
) p on true
left join users u on u.id = x.author_id;
