-- The messages that lead to one, newest first: at most p_rows of them, from the number p_until on, until their texts have
-- p_bytes or one of them has a summary. A conversation goes back from number to number, with two turns
-- (docs/decisions/0011): a user's message with a parent goes back to that message, and another answer to the same message
-- stands in the place of the first. So of several answers one is on the path, and of several branches one. Each step is one
-- look-up: what lies between the messages of a branch is not read, however much it is (docs/decisions/0068).
--
-- content: null for what models are not shown. p_excerpt: of longer texts only so many characters are given, half of them
-- from the end; 0: no texts; null: all of them. summary: id and content of the summary that stands for this message and
-- all before it. continue_at, of the last row: the p_until from which the path goes on; null at its end.
create or replace function list_path(
  p_conversation uuid, p_until bigint, p_rows integer, p_bytes integer, p_excerpt integer
)
returns table (
  id uuid, seq bigint, role text, author_name text, content text, content_bytes integer, updated_at timestamptz,
  summary json, continue_at bigint
)
language plpgsql
-- Planned once for each connection: planning takes longer than running. For the others, see send_messages.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- Nearly all parents are different.
set enable_memoize = off
-- The number of steps is estimated far too high.
set jit = off
as $$
declare
  summarised bigint[] := array(select s.until_seq from summaries s where s.conversation_id = p_conversation);
begin
  return query
  with recursive path as (
    select 0 as n, 0::bigint as bytes, p_until as next_seq, false as is_last, null::uuid as id, null::bigint as seq,
      null::text as role, null::uuid as author_id, null::text as content, null::timestamptz as updated_at,
      false as is_shown
    union all
    select p.n + 1, p.bytes + x.bytes,
      case
        when x.parent_id is null then x.seq - 1
        when x.role = 'user' then coalesce((
          select least(m.seq, x.seq - 1) from messages m
          where m.conversation_id = p_conversation and m.id = x.parent_id limit 1
        ), x.seq - 1)
        when x.role = 'assistant' and x.is_shown then coalesce((
          -- Of the first children only: there may be any number of messages that go on from the same one.
          select min(child.seq) from (
            select m.seq, m.role from messages m
            where m.conversation_id = p_conversation and m.parent_id = x.parent_id order by m.seq limit 100
          ) child where child.role = 'assistant' and child.seq < x.seq
        ), x.seq) - 1
        else x.seq - 1
      end,
      p.n + 1 >= p_rows or p.bytes + x.bytes >= p_bytes or x.seq = any (summarised),
      x.id, x.seq, x.role, x.author_id, x.content, x.updated_at, x.is_shown
    from path p
    -- A subquery with a limit is planned by itself, see send_messages.
    cross join lateral (
      select m.id, m.seq, m.role, m.author_id, m.parent_id, m.content, m.updated_at,
        least(octet_length(m.content), p_excerpt) as bytes,
        m.deleted_at is null and m.content <> '' and m.status in ('complete', 'cancelled')
          and m.role in ('system', 'user', 'assistant') as is_shown
      from messages m where m.conversation_id = p_conversation and m.seq <= p.next_seq order by m.seq desc limit 1
    ) x
    where not p.is_last
  )
  select p.id, p.seq, p.role, u.display_name,
    case
      when p_excerpt = 0 or not p.is_shown then null
      when p_excerpt is null or octet_length(p.content) <= p_excerpt or char_length(p.content) <= p_excerpt then p.content
      else left(p.content, p_excerpt / 2) || ' […] ' || right(p.content, p_excerpt / 2)
    end,
    octet_length(p.content), p.updated_at,
    case when p.seq = any (summarised) then (
      select json_build_object('id', s.id, 'content', s.content) from summaries s
      where s.conversation_id = p_conversation and s.until_seq = p.seq
    ) end,
    case when p.is_last and p.next_seq > 0 then p.next_seq end
  from path p
  left join users u on u.id = p.author_id
  where p.n > 0
  order by p.n;
end
$$;
