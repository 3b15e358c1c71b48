-- Messages with the author's name and the current text. For an answer in progress, the text consists of the stored
-- pieces, which only this view assembles. Use it for every read that may include an answer in progress.
create or replace view current_messages as
select m.conversation_id, m.seq, m.id, m.role, m.author_id,
  -- Not a join, because the plan of a join may read and sort a whole conversation for one page.
  (select u.display_name from users u where u.id = m.author_id) as author_name,
  case when m.status = 'streaming' then coalesce((
    select string_agg(p.text, '' order by p.n) from generation_pieces p
    where p.conversation_id = m.conversation_id and p.generation_id = (
      select g.id from generations g where g.conversation_id = m.conversation_id and g.message_seq = m.seq limit 1)
  ), '') else m.content end as content,
  m.status, m.model, m.finish_reason, m.input_tokens, m.output_tokens, m.cost_usd, m.parent_id, m.client_message_id,
  -- Leaves out the user who requested a regenerated answer, because readers might recognize a deleted user's id. Only the
  -- export needs it.
  m.error_code, m.error_detail, m.metadata - 'requested_by' as metadata, m.created_at, m.updated_at, m.deleted_at,
  -- Newer columns, because columns can only be added at the end of a view.
  m.cached_input_tokens, m.reasoning_tokens, m.hook_id, m.hook_name,
  m.supplied_by is not null and m.role = 'assistant' as supplied,
  case when m.status = 'streaming' then nullif((
    select string_agg(p.reasoning, '' order by p.n) from generation_pieces p
    where p.conversation_id = m.conversation_id and p.generation_id = (
      select g.id from generations g where g.conversation_id = m.conversation_id and g.message_seq = m.seq limit 1)
  ), '') else m.reasoning end as reasoning,
  m.output
from messages m;
