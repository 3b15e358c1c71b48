-- Messages as readers see them: with the name of the author, and with the text that they have now, which for an answer in
-- progress is in the pieces stored so far. The one place where that text is put together. Read messages from here wherever
-- an answer in progress may be among them.
create or replace view current_messages as
select m.conversation_id, m.seq, m.id, m.role, m.author_id,
  -- Not a join: with one, a plan may read and sort a whole conversation for a page of it.
  (select u.display_name from users u where u.id = m.author_id) as author_name,
  case when m.status = 'streaming' then coalesce((
    select string_agg(p.text, '' order by p.n) from generation_pieces p
    where p.conversation_id = m.conversation_id and p.generation_id = (
      select g.id from generations g where g.conversation_id = m.conversation_id and g.message_seq = m.seq limit 1)
  ), '') else m.content end as content,
  m.status, m.model, m.finish_reason, m.input_tokens, m.output_tokens, m.cost_usd, m.parent_id, m.client_message_id,
  -- Who asked for another answer is for the export alone: others may know the id of a user who is deleted.
  m.error_code, m.error_detail, m.metadata - 'requested_by' as metadata, m.created_at, m.updated_at, m.deleted_at,
  -- Columns that came later: a view gains them at its end.
  m.cached_input_tokens, m.reasoning_tokens, m.hook_id, m.hook_name,
  m.supplied_by is not null and m.role = 'assistant' as supplied,
  case when m.status = 'streaming' then nullif((
    select string_agg(p.reasoning, '' order by p.n) from generation_pieces p
    where p.conversation_id = m.conversation_id and p.generation_id = (
      select g.id from generations g where g.conversation_id = m.conversation_id and g.message_seq = m.seq limit 1)
  ), '') else m.reasoning end as reasoning,
  m.output
from messages m;
