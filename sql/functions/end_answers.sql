-- Group commit of completed answers (docs/decisions/0031): stores answers that completed during the previous commit.
-- For each answer, in the given order, it checks the fencing token, allocates the conversation's next sequence number
-- for `message.completed`, stores the final state and the event, and deletes the pieces of text and reasoning. At the
-- end, it settles the reservations.
--
-- Never waits for a generation or a budget: if another transaction has locked one, the outcome is `item_locked`, and
-- nothing is written for that answer. Without p_wait it doesn't wait for conversations either: if one is locked, the
-- outcome of its answers is `locked`. With p_wait it waits for conversations, for a limited time.
--
-- Idempotent: if an answer was already completed with the same fencing token, the outcome is `finished` again, with the
-- same event and without another charge. So if the response to a commit was lost, the caller can retry.
--
-- Outcomes: finished, locked, item_locked, lost (another instance has taken over the answer), gone (the conversation
-- was deleted). All arrays have one entry per answer.
create or replace function end_answers(
  p_conversation uuid[], p_generation uuid[], p_fence integer[], p_attempt integer[], p_content text[], p_status text[],
  p_reason text[], p_model text[], p_input_tokens integer[], p_output_tokens integer[], p_cost_usd numeric[],
  p_error_code text[], p_error_detail text[], p_metadata text[], p_wait boolean, p_cached_input_tokens integer[],
  p_reasoning_tokens integer[], p_first_token_ms integer[], p_reasoning text[], p_output text[]
)
returns table (
  n bigint, outcome text, event_seq bigint, at timestamptz, model text, cost_usd numeric, metadata jsonb,
  created_at timestamptz
)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set lock_timeout = '100ms'
as $$
declare
  unlocked_ids uuid[];
  -- Conversations locked by other transactions.
  locked_ids uuid[];
  -- Indexes of skipped answers: those in locked conversations, with a locked generation, or with a locked payer.
  skipped bigint[];
  -- One entry per answer: its message (message_seqs and message_ids), the user who requested it, the index of its
  -- conversation in conversation_ids (ranks), the number of sequence numbers that earlier answers of this call use in
  -- that conversation (seq_offsets), and whether its generation still exists. message_seqs and ranks are null for
  -- answers that this call doesn't store.
  message_seqs bigint[];
  message_ids uuid[];
  requester_ids uuid[];
  ranks integer[];
  seq_offsets integer[];
  has_generation boolean[];
  conversation_ids uuid[];
  counts integer[];
  first_seqs bigint[];
  -- Whether one of the answers is old enough to have been counted for analytics (analytics_marks.sql).
  is_counted boolean;
  ended_at timestamptz;
begin
  -- Always in id order, like batches of sends, to avoid deadlocks.
  if p_wait then
    perform set_config('lock_timeout', '1500ms', true);
    perform 1 from conversations c where c.id = any (p_conversation) order by c.id for no key update;
    perform set_config('lock_timeout', '100ms', true);
  else
    select array_agg(l.id) into unlocked_ids from (
      select c.id from conversations c where c.id = any (p_conversation) order by c.id for no key update skip locked
    ) l;
    -- The other conversations are locked or deleted.
    select array_agg(c.id) into locked_ids from conversations c
    where c.id = any (p_conversation) and (unlocked_ids is null or c.id <> all (unlocked_ids));
  end if;
  select array_agg(i.n) into skipped
  from unnest(p_conversation, p_generation) with ordinality as i (conversation, generation, n)
  where i.conversation = any (locked_ids) or (
    not exists (
      select 1 from generations g where g.conversation_id = i.conversation and g.id = i.generation
      for no key update skip locked
    ) and (
      select g.id from generations g where g.conversation_id = i.conversation and g.id = i.generation limit 1
    ) is not null
  );
  skipped := skipped || list_unsettleable_answers(p_conversation, p_generation, p_fence, p_input_tokens,
    p_output_tokens, p_cost_usd, skipped);

  with checked as (
    select i.n, i.conversation, g.id is not null as has_generation, g.message_seq, g.message_id, g.requested_by, g.created_at,
      g.fence = i.fence and g.status = 'running' and (skipped is null or i.n <> all (skipped)) as has_lease
    from unnest(p_conversation, p_generation, p_fence) with ordinality as i (conversation, generation, fence, n)
    left join lateral (
      select x.* from generations x where x.conversation_id = i.conversation and x.id = i.generation limit 1
    ) g on true
  ),
  numbered as (
    select j.*,
      case when j.has_lease then dense_rank() over (order by case when j.has_lease then j.conversation end) end as rank,
      row_number() over same_conversation - 1 as seq_offset,
      j.has_lease and lead(j.n) over same_conversation is null as is_last
    from checked j
    window same_conversation as (partition by case when j.has_lease then j.conversation end order by j.n)
  )
  select
    -- The conversations that get events, and the number of events.
    array_agg(p.conversation order by p.conversation) filter (where p.is_last),
    array_agg(p.seq_offset + 1 order by p.conversation) filter (where p.is_last),
    array_agg(case when p.has_lease then p.message_seq end order by p.n),
    array_agg(p.message_id order by p.n), array_agg(p.requested_by order by p.n), array_agg(p.rank order by p.n),
    array_agg(p.seq_offset order by p.n), array_agg(p.has_generation order by p.n),
    bool_or(p.has_lease and p.created_at < clock_timestamp() - interval '5 minutes')
  into conversation_ids, counts, message_seqs, message_ids, requester_ids, ranks, seq_offsets, has_generation, is_counted
  from numbered p;

  if conversation_ids is not null then
    select t.first_seqs, t.taken_at into first_seqs, ended_at from take_positions(conversation_ids, counts,
      array_fill(0, array[cardinality(conversation_ids)])) t;
  end if;

  return query
  with input as (
    select i.*, first_seqs[i.rank] + i.seq_offset as new_seq
    from unnest(p_conversation, p_generation, p_attempt, p_content, p_status, p_reason, p_model, p_input_tokens,
                p_output_tokens, p_cost_usd, p_error_code, p_error_detail, p_metadata, p_cached_input_tokens,
                p_reasoning_tokens, p_first_token_ms, p_reasoning, p_output, message_seqs, ranks, seq_offsets,
                has_generation)
      with ordinality as i (conversation, generation, attempt, content, status, reason, model, input_tokens,
                            output_tokens, cost_usd, error_code, error_detail, metadata, cached_input_tokens,
                            reasoning_tokens, first_token_ms, reasoning, output, message_seq, rank, seq_offset,
                            has_generation, n)
  ),
  ended as (
    update generations g set status = 'finished', finished_at = ended_at, lease_until = null, attempt = i.attempt
    from input i where i.message_seq is not null and g.conversation_id = i.conversation and g.id = i.generation
  ),
  written as (
    update messages m set content = i.content, status = i.status, finish_reason = i.reason,
      model = coalesce(i.model, m.model), input_tokens = i.input_tokens, output_tokens = i.output_tokens,
      cached_input_tokens = i.cached_input_tokens, reasoning_tokens = i.reasoning_tokens, cost_usd = i.cost_usd,
      first_token_ms = i.first_token_ms, error_code = i.error_code, error_detail = i.error_detail,
      metadata = m.metadata || i.metadata::jsonb, reasoning = i.reasoning, output = i.output::json, updated_at = ended_at
    from input i where i.message_seq is not null and m.conversation_id = i.conversation and m.seq = i.message_seq
    returning i.n, i.new_seq, m.model, m.cost_usd, m.metadata - 'requested_by' as metadata, m.created_at
  )
  select w.n, 'finished', w.new_seq, ended_at, w.model, w.cost_usd, w.metadata, w.created_at from written w
  union all
  select i.n,
    case
      when i.conversation = any (locked_ids) then 'locked'
      when i.n = any (skipped) then 'item_locked'
      when earlier_commit.seq is not null then 'finished'
      when i.has_generation then 'lost'
      else 'gone'
    end, earlier_commit.seq, earlier_commit.at, earlier_commit.model, earlier_commit.cost_usd, earlier_commit.metadata,
    earlier_commit.created_at
  from input i
  left join lateral (
    select e.seq, e.at, m.model, m.cost_usd, m.metadata - 'requested_by' as metadata, m.created_at
    from generations g
    join messages m on m.conversation_id = g.conversation_id and m.seq = g.message_seq
    join events e on e.conversation_id = g.conversation_id and e.seq > g.message_seq and e.message_id = g.message_id
      and e.type = 'message.completed'
    where g.conversation_id = i.conversation and g.id = i.generation and g.fence = p_fence[i.n] and g.status = 'finished'
    limit 1
  ) earlier_commit on skipped is null or i.n <> all (skipped)
  where i.message_seq is null
  order by 1;

  if conversation_ids is null then
    return;
  end if;
  perform append_events(array_agg(e.conversation), array_agg(e.seq), array_agg('message.completed'::text),
    array_agg(e.message_id), null, ended_at)
  from (
    select i.conversation, first_seqs[i.rank] + i.seq_offset as seq, i.message_id
    from unnest(p_conversation, message_ids, ranks, seq_offsets) as i (conversation, message_id, rank, seq_offset)
    where i.rank is not null order by 1, 2
  ) e;
  if is_counted then
    perform mark_changed_messages(p_conversation, message_ids);
  end if;
  perform add_webhook_event('generation.failed', null, i.conversation, jsonb_build_object(
    'generation_id', i.generation, 'message_id', i.message_id, 'model', i.model,
    'error', jsonb_build_object('code', i.error_code, 'detail', i.error_detail)))
  from unnest(p_conversation, p_generation, message_ids, ranks, p_status, p_model, p_error_code, p_error_detail)
    as i (conversation, generation, message_id, rank, status, model, error_code, error_detail)
  where i.rank is not null and i.status = 'failed';
  delete from generation_pieces p
  using unnest(p_conversation, p_generation, ranks) as i (conversation, generation, rank)
  where i.rank is not null and p.conversation_id = i.conversation and p.generation_id = i.generation;
  delete from generation_thinking t
  using unnest(p_conversation, p_generation, ranks) as i (conversation, generation, rank)
  where i.rank is not null and t.conversation_id = i.conversation and t.generation_id = i.generation;

  -- All answers of a user share these rows. Settling is the last step, so that other transactions wait for these rows
  -- only during the commit.
  perform settle_budgets(array_agg(i.generation), array_agg(i.requester_id),
    array_agg(coalesce(i.input_tokens, 0)::bigint + coalesce(i.output_tokens, 0)), array_agg(coalesce(i.cost_usd, 0)))
  from unnest(p_generation, requester_ids, p_input_tokens, p_output_tokens, p_cost_usd, ranks)
    as i (generation, requester_id, input_tokens, output_tokens, cost_usd, rank)
  where i.rank is not null;
end
$$;
