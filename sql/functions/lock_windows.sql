-- Locks the budget windows (budgets.sql) to which a batch is charged, and creates missing ones, without waiting. Returns
-- the items whose payer is locked by another transaction. Item p_items[i] is charged to the windows of payer
-- (p_scopes[i], p_ids[i]) for p_days[i]; an item may have several payers.
create or replace function lock_windows(p_items bigint[], p_scopes text[], p_ids uuid[], p_days date[]) returns bigint[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  -- Like open_windows, but without waiting. Each advisory lock takes space in the server's lock table, so windows are
  -- created for at most 100 payers. At the start of a day, the next batches create the others.
  with missing as materialized (
    select distinct i.scope, i.id, i.day
    from unnest(p_scopes, p_ids, p_days) as i (scope, id, day)
    where (
      select w.scope_id from budget_windows w
      where w.scope = i.scope and w.scope_id = i.id and w.period = 'day' and w.starts_on = i.day limit 1
    ) is null or (
      select w.scope_id from budget_windows w
      where w.scope = i.scope and w.scope_id = i.id and w.period = 'month'
        and w.starts_on = date_trunc('month', i.day)::date limit 1
    ) is null
    limit 100
  ),
  opened as materialized (
    select m.* from missing m where pg_try_advisory_xact_lock(hash_payer(m.scope, m.id))
  )
  insert into budget_windows (scope, scope_id, period, starts_on)
  select o.scope, o.id, p.period, case p.period when 'day' then o.day else date_trunc('month', o.day)::date end
  from opened o cross join (values ('day'), ('month')) as p (period)
  on conflict do nothing;

  return (
    select array_agg(distinct i.item)
    from unnest(p_items, p_scopes, p_ids, p_days) as i (item, scope, id, day)
    -- This also works for windows that this transaction has already locked.
    where not exists (
      select 1 from budget_windows w
      where w.scope = i.scope and w.scope_id = i.id and w.period = 'day' and w.starts_on = i.day
      for no key update skip locked
    ) or not exists (
      select 1 from budget_windows w
      where w.scope = i.scope and w.scope_id = i.id and w.period = 'month'
        and w.starts_on = date_trunc('month', i.day)::date
      for no key update skip locked
    )
  );
end
$$;
