-- Returns the indexes of answers in a batch that can't be settled at the moment, because another transaction has locked a
-- budget to which they are charged. Locks the other budgets. The arrays are as in end_answers. p_left_out: indexes of
-- answers to ignore. The caller must have locked the generations of all other answers.
create or replace function list_unsettleable_answers(
  p_conversation uuid[], p_generation uuid[], p_fence integer[], p_input_tokens integer[], p_output_tokens integer[],
  p_cost_usd numeric[], p_left_out bigint[]
)
returns bigint[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  -- Arrays of the same length: the index of an answer, and one of its payers.
  items bigint[];
  scopes text[];
  payers uuid[];
  days date[];
begin
  select array_agg(i.n), array_agg(c.scope), array_agg(c.id), array_agg(c.day)
  into items, scopes, payers, days
  from unnest(p_conversation, p_generation, p_fence, p_input_tokens, p_output_tokens, p_cost_usd)
    with ordinality as i (conversation, generation, fence, input_tokens, output_tokens, cost_usd, n)
  cross join lateral (
    select x.requested_by from generations x
    where x.conversation_id = i.conversation and x.id = i.generation and x.fence = i.fence and x.status = 'running' limit 1
  ) g
  -- The payers, as in settle_budgets.
  cross join lateral (
    select r.scope, r.scope_id, r.starts_on from budget_reservations r where r.id = i.generation
    union all
    select 'user', g.requested_by, (now() at time zone 'utc')::date
    where g.requested_by is not null and (i.input_tokens > 0 or i.output_tokens > 0 or i.cost_usd > 0)
      and (select r.id from budget_reservations r where r.id = i.generation limit 1) is null
  ) as c (scope, id, day)
  where p_left_out is null or i.n <> all (p_left_out);
  return case when items is not null then lock_windows(items, scopes, payers, days) end;
end
$$;
