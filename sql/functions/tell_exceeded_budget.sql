-- Emits the webhook event for an exhausted budget, once for each payer and budget window (budgets.sql). A rejected request
-- writes nothing, so this function is called afterwards, for the window of p_period at p_at (the time of the rejection).
-- If both the request's user and its key have a budget, the one with less left counts as exhausted. p_limits,
-- p_key_limits: as in reserve_budget, or null for no limit.
create or replace function tell_exceeded_budget(
  p_user uuid, p_key uuid, p_period text, p_at timestamptz, p_limits jsonb, p_key_limits jsonb
)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
declare
  starts date := date_trunc(p_period, p_at at time zone 'utc')::date;
  payer record;
begin
  -- A webhook created in the middle of a window still gets the event.
  if not exists (
    select from webhooks w
    where w.disabled_at is null and (w.events @> array['budget.exceeded'] or w.events = '{*}')
  ) then
    return;
  end if;
  select w.scope, w.scope_id, w.spent_tokens, w.spent_usd, p.limit_tokens, p.limit_usd into payer
  from (
    select l.scope, l.id, (l.limits ->> (p_period || '_tokens'))::bigint as limit_tokens,
      (l.limits ->> (p_period || '_usd'))::numeric as limit_usd
    from (values ('key', p_key, p_key_limits), ('user', p_user, p_limits)) as l (scope, id, limits)
  ) p
  join budget_windows w
    on w.scope = p.scope and w.scope_id = p.id and w.period = p_period and w.starts_on = starts
  where p.limit_tokens is not null or p.limit_usd is not null
  order by p.limit_tokens - w.spent_tokens - w.reserved_tokens, p.limit_usd - w.spent_usd - w.reserved_usd, w.scope
  limit 1;

  update budget_windows w set told_at = p_at
  where w.scope = payer.scope and w.scope_id = payer.scope_id and w.period = p_period and w.starts_on = starts
    and w.told_at is null;
  if found then
    perform add_webhook_event('budget.exceeded', p_user, null, jsonb_build_object(
      'user_id', p_user,
      'api_key_id', case payer.scope when 'key' then p_key end,
      'period', p_period,
      'starts_at', to_char(starts, 'YYYY-MM-DD"T00:00:00.000Z"'),
      'ends_at', to_char(starts + ('1 ' || p_period)::interval, 'YYYY-MM-DD"T00:00:00.000Z"'),
      'spent_tokens', payer.spent_tokens,
      'limit_tokens', payer.limit_tokens,
      'spent_usd', payer.spent_usd::float8,
      'limit_usd', payer.limit_usd::float8));
  end if;
end
$$;
