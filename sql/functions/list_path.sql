-- Messages as they appear on a path. is_shown: whether a message is sent to models. Answers in progress are not sent, so
-- this view doesn't include their text.
create or replace view path_rows as
select m.conversation_id, m.seq, m.id, m.role, m.author_id, m.parent_id, m.content, m.updated_at,
  m.deleted_at is null and m.content <> '' and m.status in ('complete', 'cancelled')
    and m.role in ('system', 'user', 'assistant') as is_shown,
  m.hook_name
from messages m;

-- Shortens a text to p_chars characters, half of them from its end. Returns null if p_chars is 0, and the whole text if
-- it is null.
create or replace function excerpt_text(p_text text, p_chars integer) returns text
language sql
immutable
as $$
  select case
    when p_chars = 0 then null
    when p_chars is null or octet_length(p_text) <= p_chars or char_length(p_text) <= p_chars then p_text
    else left(p_text, p_chars / 2) || ' […] ' || right(p_text, p_chars / 2)
  end
$$;

-- Lists the messages on the path to a message, newest first, starting at sequence number p_until. Stops after p_rows
-- messages, after p_bytes of text, or at a message with a summary. The path follows the sequence numbers backwards, with
-- two exceptions (docs/decisions/0011): a user's message with a parent is preceded by that parent, and a regenerated
-- answer replaces the first one. So the path contains only one of several answers to a message, and only one of several
-- branches. Messages of other branches are not read, however many there are (docs/decisions/0068).
--
-- content: null if the message isn't sent to models, otherwise shortened to p_excerpt as in excerpt_text. author_name:
-- always set for hooks; for users only with p_has_names. summary: id and content of the summary that replaces this
-- message and all earlier ones. continue_at: in the last row, the p_until for the next call, or null if the path ends
-- there.
create or replace function list_path(
  p_conversation uuid, p_until bigint, p_rows integer, p_bytes integer, p_excerpt integer, p_has_names boolean
)
returns table (
  id uuid, seq bigint, role text, author_name text, content text, content_bytes integer, updated_at timestamptz,
  summary json, continue_at bigint
)
language plpgsql
-- Plans are cached, because planning takes longer than execution. For the other settings, see send_messages.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- The planner's estimate of the number of steps is far too high, so it would use JIT compilation, which is slow.
set jit = off
as $$
declare
  -- The sequence numbers of all messages with a summary.
  summary_seqs bigint[];
  -- The sequence numbers of the message with the newest summary, and of the message before it.
  summary_seq bigint;
  seq_before_summary bigint;
  -- The sequence number of a message whose parent isn't the message directly before it.
  branch_seq bigint;
begin
  select coalesce(array_agg(s.until_seq), '{}'), max(s.until_seq) filter (where s.until_seq <= p_until)
  into summary_seqs, summary_seq
  from summaries s where s.conversation_id = p_conversation;
  if summary_seq is not null then
    select m.seq into seq_before_summary from messages m where m.conversation_id = p_conversation and m.seq < summary_seq
    order by m.seq desc limit 1;
  end if;
  -- If this finds no message, the path to the newest summary is a plain range of sequence numbers.
  select r.seq into branch_seq from (
    select m.seq, m.parent_id, lead(m.id) over (order by m.seq desc) as before_id
    from messages m where m.conversation_id = p_conversation and m.seq <= p_until and m.seq >= coalesce(seq_before_summary, 1)
    order by m.seq desc limit p_rows + 1
  ) r
  where r.parent_id <> r.before_id limit 1;

  if branch_seq is null then
    return query
    select r.id, r.seq, r.role, coalesce(r.hook_name, u.display_name),
      case when r.is_shown then excerpt_text(r.content, p_excerpt) end,
      octet_length(r.content), r.updated_at,
      case when r.seq = any (summary_seqs) then (
        select json_build_object('id', s.id, 'content', s.content) from summaries s
        where s.conversation_id = p_conversation and s.until_seq = r.seq
      ) end,
      case when r.n = p_rows or r.bytes >= p_bytes or r.seq = summary_seq then r.seq - 1 end
    from (
      select x.*, row_number() over newest_first as n,
        sum(least(octet_length(x.content), p_excerpt)) over newest_first as bytes
      from (
        select * from path_rows m
        where m.conversation_id = p_conversation and m.seq <= p_until and m.seq >= coalesce(summary_seq, 1)
        order by m.seq desc limit p_rows
      ) x
      window newest_first as (order by x.seq desc rows between unbounded preceding and current row)
    ) r
    left join users u on p_has_names and u.id = r.author_id
    where r.bytes - least(octet_length(r.content), p_excerpt) < p_bytes
    order by r.n;
    return;
  end if;

  -- Follows the path; each step is one lookup.
  return query
  with recursive path as (
    -- user_parent_id: the parent of a user's message. question_id: the parent of an answer.
    select 0 as n, 0::bigint as bytes, false as is_last, p_until + 1 as seq, null::uuid as user_parent_id,
      null::uuid as question_id, null::uuid as id, null::text as role, null::uuid as author_id, null::text as content,
      null::timestamptz as updated_at, false as is_shown, null::text as hook_name
    union all
    select p.n + 1, p.bytes + least(octet_length(x.content), p_excerpt),
      p.n + 1 = p_rows or p.bytes + least(octet_length(x.content), p_excerpt) >= p_bytes
        or x.seq = any (summary_seqs),
      x.seq, case when x.role = 'user' then x.parent_id end,
      case when x.role = 'assistant' and x.is_shown then x.parent_id end,
      x.id, x.role, x.author_id, x.content, x.updated_at, x.is_shown, x.hook_name
    from path p
    cross join lateral (
      -- Uses the first subquery that has a row; later ones are not run. Each has a limit, so it is planned separately,
      -- see send_messages.
      (
        select * from path_rows m
        where m.conversation_id = p_conversation and m.id = p.user_parent_id and m.seq < p.seq limit 1
      ) union all (
        select * from (
          select * from path_rows m
          where m.conversation_id = p_conversation and m.seq < p.seq order by m.seq desc limit 1
        ) m
        where p.question_id is null or m.id = p.question_id
      ) union all (
        select * from path_rows m
        where m.conversation_id = p_conversation and m.seq < (
          -- Only searches the first 100 children, because any number of messages may have the same parent.
          select least(min(c.seq), p.seq) from (
            select x.seq, x.role from messages x
            where x.conversation_id = p_conversation and x.parent_id = p.question_id order by x.seq limit 100
          ) c where c.role = 'assistant'
        )
        order by m.seq desc limit 1
      )
      limit 1
    ) x
    where not p.is_last
  )
  select p.id, p.seq, p.role, coalesce(p.hook_name, u.display_name),
    case when p.is_shown then excerpt_text(p.content, p_excerpt) end,
    octet_length(p.content), p.updated_at,
    case when p.seq = any (summary_seqs) then (
      select json_build_object('id', s.id, 'content', s.content) from summaries s
      where s.conversation_id = p_conversation and s.until_seq = p.seq
    ) end,
    case when p.is_last then coalesce((
      select m.seq from messages m
      where m.conversation_id = p_conversation and m.id = p.user_parent_id and m.seq < p.seq limit 1
    ), (
      select least(min(c.seq), p.seq) - 1 from (
        select x.seq, x.role from messages x
        where x.conversation_id = p_conversation and x.parent_id = p.question_id order by x.seq limit 100
      ) c where c.role = 'assistant'
    )) end
  from path p
  left join users u on p_has_names and u.id = p.author_id
  where p.n > 0
  order by p.n;
end
$$;
