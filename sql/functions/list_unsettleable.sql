-- The conversations of a batch of answers that cannot be settled for now, because a budget that they are charged to is
-- locked by somebody else. The other budgets are locked from here on. The arrays are parallel, as in finish_answers.
create or replace function list_unsettleable(p_conversation uuid[], p_generation uuid[]) returns uuid[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  return (
    select array_agg(distinct c.conversation)
    from (
      select i.conversation, r.scope, r.scope_id, r.starts_on
      from unnest(p_conversation, p_generation) as i (conversation, generation)
      join budget_reservations r on r.id = i.generation
      union all
      select i.conversation, 'user', g.requested_by, (now() at time zone 'utc')::date
      from unnest(p_conversation, p_generation) as i (conversation, generation)
      join generations g on g.conversation_id = i.conversation and g.id = i.generation
    ) c
    join budget_windows w on w.scope = c.scope and w.scope_id = c.scope_id
      and ((w.period = 'day' and w.starts_on = c.starts_on)
        or (w.period = 'month' and w.starts_on = date_trunc('month', c.starts_on)::date))
    -- Those that this transaction has locked are free to be locked again.
    where not exists (
      select 1 from budget_windows o where o.scope = w.scope and o.scope_id = w.scope_id and o.period = w.period
        and o.starts_on = w.starts_on for no key update skip locked));
end
$$;
