-- Group commit: many sends in one statement (docs/decisions/0002). For each item, in the order given: checks that the
-- author may write there, answers a repeated client id with the stored message, takes the next number(s) of the
-- conversation's counter, and stores the message and, where a model is to answer, the empty answer with its generation.
--
-- Outcomes: created, duplicate, not_found (also: not a member), forbidden (viewer), no_parent, budget_exceeded (with the
-- period in `exceeded`).
-- p_items: an array of objects, whose fields are listed below. `reply` is true, false, or absent for what the
-- conversation's reply_mode says; `mentioned`: the text calls for a model. p_conversations: those of the items.
-- p_budget: what each answer is reserved for (sql/0006); null: nothing is limited. p_owner and p_lease_ms: the lease of
-- the generations, so that the sender's own instance writes them without asking again; null: whoever comes first.

create function send_messages(
  p_items json, p_conversations uuid[], p_default_model text, p_budget jsonb, p_owner uuid, p_lease_ms integer
)
returns table (
  n bigint, outcome text, message_id uuid, seq bigint, answer_seq bigint, answer_model text, at timestamptz, exceeded text
)
language plpgsql
-- The statement is planned once and kept; tables grow from nothing to millions, so it must not settle on scans. For the
-- same reason each look-up leaves one index to choose: what is compared by `is not distinct from` takes no index.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  -- Always in id order, so that two instances never wait for each other in a circle.
  perform 1 from conversations c where c.id = any (p_conversations) order by c.id for update;

  -- A statement of its own: only its snapshot shows what was committed while the locks were waited for.
  return query
  with checked as (
    select i.*, c.last_seq, stored.id as stored_id,
      coalesce(i.reply, c.reply_mode = 'always' or (c.reply_mode = 'mention' and i.mentioned)) as is_answered,
      coalesce(i.model, c.model, p_default_model) as answer_model,
      case
        when m.role is null then 'not_found'
        when stored.id is not null then 'duplicate'
        when m.role = 'viewer' then 'forbidden'
        when i.parent is not null and not exists (
          select 1 from messages p where p.id = i.parent and p.conversation_id is not distinct from i.conversation
        ) then 'no_parent'
        else 'created'
      end as outcome
    from rows from (
      json_to_recordset(p_items) as (
        id uuid, conversation uuid, author uuid, client_id text, content text, parent uuid, reply boolean,
        mentioned boolean, model text, answer_id uuid, generation_id uuid)
    ) with ordinality as i (id, conversation, author, client_id, content, parent, reply, mentioned, model, answer_id,
                            generation_id, n)
    left join members m on m.conversation_id = i.conversation and m.user_id = i.author
    left join conversations c on c.id = m.conversation_id
    left join messages stored on stored.author_id = i.author and stored.client_message_id = i.client_id
      and stored.conversation_id is not distinct from m.conversation_id
  ),
  -- Of the same client id twice in one batch, the first is sent and the others repeat it.
  paired as (
    select c.*, first_value(c.id) over twins as first_id,
      c.outcome = 'created' and row_number() over twins = 1 as is_first
    from checked c
    window twins as (
      partition by c.conversation, c.author, coalesce(c.client_id, c.id::text), c.outcome order by c.n
    )
  ),
  -- One author after the other: their windows are locked in the same order everywhere.
  afforded as materialized (
    select p.*,
      case when p.is_first and p.is_answered and p_budget is not null then
        reserve_answer(p.generation_id, p.author, p.conversation, octet_length(p.content), p.answer_model, p_budget)
      end as refused_by
    from (select * from paired order by author, n) p
  ),
  judged as (
    select a.*, a.is_first and a.refused_by is null as is_new, first_value(a.refused_by) over twins as exceeded
    from afforded a
    window twins as (
      partition by a.conversation, a.author, coalesce(a.client_id, a.id::text), a.outcome order by a.n
    )
  ),
  numbered as (
    select p.*,
      p.last_seq - p.is_answered::int
        + sum(case when p.is_new then 1 + p.is_answered::int else 0 end) over (partition by p.conversation order by p.n)
        as seq
    from judged p
  ),
  counted as (
    update conversations c set last_seq = latest.seq, updated_at = now()
    from (
      select x.conversation, max(x.seq + x.is_answered::int) as seq from numbered x where x.is_new group by 1
    ) latest
    where c.id = latest.conversation
  ),
  sent as (
    insert into messages (id, conversation_id, seq, role, author_id, content, status, model, parent_id, client_message_id)
    select x.id, x.conversation, x.seq, 'user', x.author, x.content, 'complete', null, x.parent, x.client_id
    from numbered x where x.is_new
    union all
    select x.answer_id, x.conversation, x.seq + 1, 'assistant', null, '', 'streaming', x.answer_model, x.id, null
    from numbered x where x.is_new and x.is_answered
  ),
  generating as (
    insert into generations (
      id, message_id, conversation_id, requested_by, model, status, owner, lease_until, fence, started_at)
    select x.generation_id, x.answer_id, x.conversation, x.author, x.answer_model,
      case when p_owner is null then 'pending' else 'running' end, p_owner,
      case when p_owner is not null then now() + p_lease_ms * interval '1 ms' end,
      case when p_owner is null then 0 else 1 end, case when p_owner is not null then now() end
    from numbered x where x.is_new and x.is_answered
  )
  select x.n,
    case
      when x.outcome = 'created' and x.exceeded is not null then 'budget_exceeded'
      when x.outcome = 'created' and not x.is_new then 'duplicate'
      else x.outcome
    end,
    coalesce(x.stored_id, x.first_id),
    case when x.is_new then x.seq::bigint end,
    case when x.is_new and x.is_answered then (x.seq + 1)::bigint end,
    case when x.is_new and x.is_answered then x.answer_model end,
    now(),
    x.exceeded
  from numbered x
  order by x.n;
end
$$;
