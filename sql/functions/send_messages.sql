-- Group commit of sends (docs/decisions/0002). For each item, in the given order, it checks that the author may write
-- in the conversation, finds the stored message of a repeated client id, and allocates the conversation's next sequence
-- number(s). Then it stores the message and, if a model should answer, an empty answer with its generation.
--
-- A message moves its sender's read position, and counts towards the sender's stored bytes. An incoming hook's message
-- moves no read position, and counts towards the stored bytes of the hook's creator. The creator is the item's `author`
-- here, and is charged for the answer (docs/decisions/0072).
--
-- Never waits for a budget or a member: if another transaction has locked an item's payer or sender, the outcome is
-- `item_locked`, and nothing is written for the item. Without p_wait it doesn't wait for conversations either: if one
-- is locked, the outcome of its items is `locked`. With p_wait it waits for conversations, for a limited time.
--
-- Outcomes: created, locked, item_locked, duplicate, not_found (also: not a member), forbidden (viewer), no_parent,
-- budget_exceeded (with the period in `exceeded`).
--
-- p_items: an array of objects with the fields in the call of json_to_recordset below. `reply` is true, false, or absent
-- to use the conversation's reply_mode. `mentioned`: whether the text mentions a model. `api_key`: the key with which
-- the message was sent. `options`: {reasoning_effort, reply_format} for the message's answers, both optional. The
-- options are stored with the message, for regenerated answers, and with the generation, for the instance that generates
-- this answer. If no reasoning_effort is passed, the generation stores the conversation's.
--
-- p_conversations: the items' conversations. p_budget: as in estimate_answer and reserve_budgets, or null for no
-- limits. p_owner and p_lease_ms: the generations' lease, so that the sending instance can generate the answers without
-- another query, or null to let any instance claim them.
create or replace function send_messages(
  p_items json, p_conversations uuid[], p_default_model text, p_budget jsonb, p_owner uuid, p_lease_ms integer,
  p_wait boolean
)
returns table (
  n bigint, outcome text, conversation_id uuid, message_id uuid, seq bigint, answer_seq bigint, answer_model text,
  at timestamptz, exceeded text
)
language plpgsql
-- A cached plan must suit tables that grow from zero to millions of rows, so plan types that only suit small tables are
-- disabled.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
-- Only applies to locks on rows that foreign keys reference. Other transactions hold these only briefly.
set lock_timeout = '100ms'
as $$
declare
  unlocked_ids uuid[];
  -- Conversations locked by other transactions.
  locked_ids uuid[];
  -- Indexes of items with a locked payer, and of later items of the same authors.
  unpayable_items bigint[];
  verdicts send_verdict[];
  -- One entry per item, in order; null if no item comes from a hook.
  hooks uuid[];
  hook_names text[];
  -- One entry per item; null if no item has an effort or options.
  efforts text[];
  options json[];
  conversation_ids uuid[];
  counts integer[];
  first_seqs bigint[];
  first_counts bigint[];
  sent_at timestamptz;
begin
  -- Always in id order, to avoid deadlocks. Not `for update`, which conflicts with the share locks of foreign keys.
  if p_wait then
    perform set_config('lock_timeout', '1500ms', true);
    perform 1 from conversations c where c.id = any (p_conversations) order by c.id for no key update;
    perform set_config('lock_timeout', '100ms', true);
  else
    select array_agg(l.id) into unlocked_ids from (
      select c.id from conversations c where c.id = any (p_conversations) order by c.id for no key update skip locked
    ) l;
    if coalesce(cardinality(unlocked_ids), 0) < cardinality(p_conversations) then
      select array_agg(c.id) into locked_ids from conversations c
      where c.id = any (p_conversations) and (unlocked_ids is null or c.id <> all (unlocked_ids));
    end if;
  end if;
  if p_budget is not null then
    unpayable_items := list_unpayable_items(p_items, p_default_model, p_budget, locked_ids);
  end if;

  -- A separate statement, because its snapshot includes what was committed during the wait for locks.
  with checked as (
    select i.*, stored.id as stored_id,
      coalesce(i.reply, c.reply_mode = 'always' or (c.reply_mode = 'mention' and i.mentioned)) as is_answered,
      coalesce(i.model, c.model, p_default_model) as answer_model,
      coalesce(i.options ->> 'reasoning_effort', c.reasoning_effort) as effort,
      case
        when m.role is null and existing.role is null then 'not_found'
        when i.conversation = any (locked_ids) then 'locked'
        -- If the sender's row was locked for one item, all of the sender's items are skipped, to keep their order. The
        -- lock may have been released between two items.
        when i.n = any (unpayable_items) or bool_or(m.role is null) over (partition by i.conversation, i.author)
          then 'item_locked'
        when stored.id is not null then 'duplicate'
        when m.role = 'viewer' then 'forbidden'
        when i.parent is not null and (
          select p.id from messages p where p.conversation_id = i.conversation and p.id = i.parent limit 1
        ) is null then 'no_parent'
        else 'created'
      end as outcome
    from rows from (
      json_to_recordset(p_items) as (
        id uuid, conversation uuid, author uuid, client_id text, content text, parent uuid, reply boolean,
        mentioned boolean, model text, answer_id uuid, generation_id uuid, api_key uuid, hook uuid, hook_name text,
        options json)
    ) with ordinality as i (id, conversation, author, client_id, content, parent, reply, mentioned, model, answer_id,
                            generation_id, api_key, hook, hook_name, options, n)
    -- Each lookup is a subquery with a limit, because Postgres plans such a subquery separately. While the tables are
    -- small, the plan of a join may use only the first column of a different index.
    left join lateral (
      select x.role from members x
      where x.conversation_id = i.conversation and x.user_id = i.author
        and (locked_ids is null or i.conversation <> all (locked_ids))
      limit 1 for no key update skip locked
    ) m on true
    -- Distinguishes a member whose row is locked from a user who isn't a member.
    left join lateral (
      select x.role from members x
      where m.role is null and x.conversation_id = i.conversation and x.user_id = i.author limit 1
    ) existing on true
    left join conversations c on c.id = i.conversation
    left join lateral (
      (
        select x.id from messages x
        where i.hook is null and x.conversation_id = i.conversation and x.author_id = i.author
          and x.client_message_id = i.client_id limit 1
      ) union all (
        select x.id from messages x
        where i.hook is not null and x.conversation_id = i.conversation and x.hook_id = i.hook
          and x.client_message_id = i.client_id limit 1
      )
      limit 1
    ) stored on true
  ),
  -- If a batch has the same client id several times, only the first item is stored.
  deduplicated as (
    select c.*, first_value(c.id) over same_client_id as first_id,
      c.outcome = 'created' and row_number() over same_client_id = 1 as is_first
    from checked c
    window same_client_id as (
      partition by c.conversation, c.author, c.hook, coalesce(c.client_id, c.id::text), c.outcome order by c.n
    )
  ),
  -- All budget windows are already locked. Reserves the key's budget first, then the user's; if either is exhausted,
  -- nothing is reserved.
  with_key_reservation as materialized (
    select k.*,
      case when k.estimate is not null and k.api_key is not null and p_budget ? 'key_limits' then
        reserve_budget(k.generation_id, 'key', k.api_key, k.estimate[1]::bigint, k.estimate[2], p_budget -> 'key_limits')
      end as key_exceeded
    from (
      select p.*,
        case when p.is_first and p.is_answered and p_budget is not null then
          -- The answer's schema is also part of the prompt.
          estimate_answer(p.conversation, octet_length(p.content) + coalesce(octet_length(p.options::text), 0),
            p.answer_model, p_budget)
        end as estimate
      from deduplicated p order by p.api_key, p.n
    ) k
  ),
  with_reservations as materialized (
    select a.*,
      case when a.estimate is null or a.key_exceeded is not null then a.key_exceeded
      else reserve_for_user(a.generation_id, a.author, a.estimate[1]::bigint, a.estimate[2], p_budget -> 'limits')
      end as exceeded_period
    from (select * from with_key_reservation order by author, n) a
  ),
  decided as (
    select a.*, a.is_first and a.exceeded_period is null as is_new,
      first_value(a.exceeded_period) over same_client_id as exceeded
    from with_reservations a
    window same_client_id as (
      partition by a.conversation, a.author, a.hook, coalesce(a.client_id, a.id::text), a.outcome order by a.n
    )
  ),
  positioned as (
    select j.*,
      dense_rank() over (order by case when j.is_new then j.conversation end) as conversation_rank,
      sum(1 + j.is_answered::int) over same_conversation - 1 - j.is_answered::int as seq_offset,
      j.is_new and lead(j.n) over same_conversation is null as is_last
    from decided j
    window same_conversation as (partition by case when j.is_new then j.conversation end order by j.n)
  )
  select
    -- The conversations that get messages, and how many sequence numbers each needs.
    array_agg(p.conversation order by p.conversation) filter (where p.is_last),
    array_agg(p.seq_offset + 1 + p.is_answered::int order by p.conversation) filter (where p.is_last),
    array_agg((
    p.n, p.id, p.conversation, p.author, p.client_id, p.content, p.parent, p.answer_id, p.generation_id, p.answer_model,
    case
      when p.outcome = 'created' and p.exceeded is not null then 'budget_exceeded'
      when p.outcome = 'created' and not p.is_new then 'duplicate'
      else p.outcome
    end,
    coalesce(p.stored_id, p.first_id), p.exceeded, p.is_new, p.is_answered, p.conversation_rank, p.seq_offset
  )::send_verdict order by p.n),
    case when count(p.hook) > 0 then array_agg(p.hook order by p.n) end,
    case when count(p.hook) > 0 then array_agg(p.hook_name order by p.n) end,
    case when count(p.effort) > 0 then array_agg(p.effort order by p.n) end,
    case when count(p.options) > 0 then array_agg(p.options order by p.n) end
  into conversation_ids, counts, verdicts, hooks, hook_names, efforts, options
  from positioned p;

  if conversation_ids is not null then
    select t.first_seqs, t.first_counts, t.taken_at into first_seqs, first_counts, sent_at
    from take_positions(conversation_ids, counts, counts) t;
    -- Updates each row by its ctid, which the lock keeps stable, see take_positions.
    with senders as materialized (
      select s.*, (
        select x.ctid from members x where x.conversation_id = s.conversation and x.user_id = s.author
      ) as row_ctid
      from (
        select v.conversation, v.author,
          max(first_seqs[v.conversation_rank] + v.seq_offset) filter (where hooks[v.n] is null) as seq,
          max(first_counts[v.conversation_rank] + v.seq_offset) filter (where hooks[v.n] is null) + 1 as count,
          sum(octet_length(v.content) + coalesce(octet_length(options[v.n]::text), 0)) as bytes
        from unnest(verdicts) v where v.is_new group by v.conversation, v.author
      ) s
    )
    update members m set last_read_seq = coalesce(s.seq, m.last_read_seq), read_count = coalesce(s.count, m.read_count),
      written_bytes = m.written_bytes + s.bytes
    from senders s where m.ctid = s.row_ctid;
  end if;

  return query
  with numbered as (
    select v.*, hooks[v.n] as hook, hook_names[v.n] as hook_name, efforts[v.n] as effort, options[v.n] as options,
      case when v.is_new then first_seqs[v.conversation_rank] + v.seq_offset end as new_seq
    from unnest(verdicts) v
  ),
  sent as (
    insert into messages (conversation_id, seq, id, role, author_id, content, status, model, parent_id,
      client_message_id, created_at, updated_at, hook_id, hook_name, hook_user_id, reply_options)
    select x.conversation, x.new_seq, x.id, 'user', case when x.hook is null then x.author end, x.content, 'complete', null,
      x.parent, x.client_id, sent_at, sent_at, x.hook, x.hook_name, case when x.hook is not null then x.author end,
      x.options
    from numbered x where x.is_new
    union all
    select x.conversation, x.new_seq + 1, x.answer_id, 'assistant', null, '', 'streaming', x.answer_model, x.id, null,
      sent_at, sent_at, null, null, null, null
    from numbered x where x.is_new and x.is_answered
  ),
  generating as (
    insert into generations (conversation_id, id, message_id, message_seq, requested_by, model, status, owner, lease_until,
      fence, created_at, started_at, reasoning_effort, reply_format)
    select x.conversation, x.generation_id, x.answer_id, x.new_seq + 1, x.author, x.answer_model,
      case when p_owner is null then 'pending' else 'running' end, p_owner,
      sent_at + coalesce(p_lease_ms * interval '1 ms', interval '5 s'),
      case when p_owner is null then 0 else 1 end, sent_at, case when p_owner is not null then sent_at end,
      x.effort, x.options -> 'reply_format'
    from numbered x where x.is_new and x.is_answered
  )
  select x.n, x.outcome, x.conversation, x.existing_id, x.new_seq,
    case when x.is_new and x.is_answered then x.new_seq + 1 end,
    case when x.is_new and x.is_answered then x.answer_model end,
    sent_at, x.exceeded
  from numbered x
  order by x.n;

  if conversation_ids is not null then
    perform append_events(array_agg(e.conversation), array_agg(e.seq), array_agg('message.created'::text),
      array_agg(e.message), null, sent_at)
    from (
      select v.conversation, first_seqs[v.conversation_rank] + v.seq_offset as seq, v.id as message
      from unnest(verdicts) v where v.is_new
      union all
      select v.conversation, first_seqs[v.conversation_rank] + v.seq_offset + 1, v.answer_id
      from unnest(verdicts) v where v.is_new and v.is_answered
      order by 1, 2
    ) e;
  end if;
end
$$;
