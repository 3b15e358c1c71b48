-- The other half of a group commit: answers that end while a commit is in flight are written together. For each item,
-- in the order given: checks the lease by its fence, takes the conversation's next number for `message.completed`, and
-- stores the final state and the event. What was reserved for them is settled at the end, in the same transaction.
--
-- Outcomes: finished, lost (another instance holds it), gone (the conversation was deleted, and the answer with it).

create function finish_answers(
  p_generation uuid[], p_fence integer[], p_attempt integer[], p_content text[], p_status text[], p_reason text[],
  p_model text[], p_input_tokens integer[], p_output_tokens integer[], p_cost_usd numeric[], p_error_code text[],
  p_error_detail text[], p_metadata text[]
)
returns table (
  n bigint, outcome text, event_seq bigint, at timestamptz, model text, cost_usd numeric, metadata jsonb,
  created_at timestamptz
)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  -- Always in id order, as every batch of sends takes them.
  perform 1 from conversations c
  where c.id in (select g.conversation_id from generations g where g.id = any (p_generation))
  order by c.id for update;
  -- Then the generations, in the order in which leases are renewed and checkpoints are stored.
  perform 1 from generations g where g.id = any (p_generation) order by g.id for update;

  return query
  with input as (
    select * from unnest(p_generation, p_fence, p_attempt, p_content, p_status, p_reason, p_model, p_input_tokens,
                         p_output_tokens, p_cost_usd, p_error_code, p_error_detail, p_metadata)
      with ordinality as i (generation, fence, attempt, content, status, reason, model, input_tokens,
                            output_tokens, cost_usd, error_code, error_detail, metadata, n)
  ),
  held as (
    update generations g set status = 'finished', finished_at = now(), lease_until = null, attempt = i.attempt
    from input i where g.id = i.generation and g.fence = i.fence and g.status = 'running'
    returning i.n, g.message_id, g.conversation_id
  ),
  numbered as (
    select h.*, c.last_seq + row_number() over (partition by h.conversation_id order by h.n) as seq
    from held h join conversations c on c.id = h.conversation_id
  ),
  counted as (
    update conversations c set last_seq = latest.seq, updated_at = now()
    from (select x.conversation_id, max(x.seq) as seq from numbered x group by x.conversation_id) latest
    where c.id = latest.conversation_id
  ),
  logged as (
    insert into events (conversation_id, seq, type, message_id, at)
    select x.conversation_id, x.seq, 'message.completed', x.message_id, now() from numbered x
  ),
  written as (
    update messages m set content = i.content, status = i.status, finish_reason = i.reason,
      model = coalesce(i.model, m.model), input_tokens = i.input_tokens, output_tokens = i.output_tokens,
      cost_usd = i.cost_usd, error_code = i.error_code, error_detail = i.error_detail,
      metadata = m.metadata || i.metadata::jsonb, updated_at = now()
    from numbered x join input i on i.n = x.n where m.id = x.message_id
    returning x.n, m.model, m.cost_usd, m.metadata, m.created_at
  )
  select i.n,
    case
      when w.n is not null then 'finished'
      when exists (select 1 from generations g where g.id = i.generation) then 'lost'
      else 'gone'
    end,
    x.seq, now(), w.model, w.cost_usd, w.metadata, w.created_at
  from input i
  left join numbered x on x.n = i.n
  left join written w on w.n = i.n
  order by i.n;

  -- Last, because many answers of one user share these rows: nobody waits for them longer than the commit takes.
  perform settle_budgets(array_agg(g.id), array_agg(g.requested_by),
    array_agg((coalesce(i.input_tokens, 0) + coalesce(i.output_tokens, 0))::bigint), array_agg(coalesce(i.cost_usd, 0)))
  from unnest(p_generation, p_fence, p_input_tokens, p_output_tokens, p_cost_usd)
    as i (generation, fence, input_tokens, output_tokens, cost_usd)
  join generations g on g.id = i.generation and g.fence = i.fence and g.finished_at = now()
  having count(*) > 0;
end
$$;
