-- What an answer is made from, in one look: with the commit of the question where it can be, else apart from it.

-- The messages of a conversation, with what is needed to follow a branch. (To change the type of a column that it shows, drop
-- it first and make it again.)
create view path_messages as
select x.conversation_id, x.id, x.seq, x.role, u.display_name as author_name, x.content, x.parent_id, p.seq as parent_seq,
  case when x.role = 'assistant' and x.seq > p.seq + 1 then (
    select min(s.seq) from messages s where s.parent_id = x.parent_id and s.role = 'assistant') end as first_answer_seq,
  x.deleted_at is null and x.content <> '' and x.status in ('complete', 'cancelled')
    and x.role in ('system', 'user', 'assistant') as is_shown
from messages x
left join messages p on p.id = x.parent_id
left join users u on u.id = x.author_id;

-- The setting of an answer, with the newest messages up to p_from (null: of all) and the newest summaries. p_user asks.
-- Null when the conversation is gone.
create function answer_context(
  p_conversation uuid, p_user uuid, p_from uuid, p_rows integer, p_summaries integer
) returns json
language plpgsql
-- Planned once for each connection: to plan it takes longer than to run it. See send_messages for the others.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  return (
    select row_to_json(a) from (
      select c.id, c.title, c.kind, c.titled_by, c.metadata, c.model, v.template, p.user_id as prompt_owner_id,
        u.id as user_id, u.display_name, u.preferences,
        coalesce((
          select json_agg(json_build_object('id', s.id, 'message_id', s.message_id, 'content', s.content))
          from (select * from summaries where conversation_id = c.id order by until_seq desc limit p_summaries) s
        ), '[]') as summaries,
        coalesce((
          select json_agg(x) from (
            select id, seq, role, author_name, content, parent_id, parent_seq, first_answer_seq, is_shown
            from path_messages
            where conversation_id = c.id
              and seq <= case when p_from is null then c.last_seq else (select f.seq from messages f where f.id = p_from) end
            order by seq desc limit p_rows
          ) x
        ), '[]') as newest
      from conversations c
      left join prompts p on p.id = c.prompt_id
      left join prompt_versions v on v.prompt_id = p.id and v.version = p.version
      left join users u on u.id = p_user
      where c.id = p_conversation
    ) a);
end
$$;

-- The same for the answer to a message that was just sent, asked by its author. It also sees one of its own statement.
-- Null when the newest messages have more than p_bytes of text: it holds a commit that others wait for.
create function message_context(p_message uuid, p_rows integer, p_summaries integer, p_bytes integer) returns json
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  return (
    select answer_context(m.conversation_id, m.author_id, m.id, p_rows, p_summaries)
    from messages m
    where m.id = p_message and p_bytes >= (
      select coalesce(sum(octet_length(newest.content)), 0) from (
        select x.content from messages x where x.conversation_id = m.conversation_id and x.seq <= m.seq
        order by x.seq desc limit p_rows
      ) newest));
end
$$;
