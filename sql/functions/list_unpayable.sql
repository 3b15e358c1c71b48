-- The conversations of a batch of sends whose answers cannot be reserved for now, because the budget of a user or of a key is
-- locked by somebody else. The other budgets are locked from here on. p_items: as in send_messages.
create or replace function list_unpayable(p_items json) returns uuid[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  today date := (now() at time zone 'utc')::date;
  month date := date_trunc('month', today)::date;
begin
  return (
    select array_agg(distinct c.conversation)
    from (
      select i.conversation, p.scope, p.id
      from json_to_recordset(p_items) as i (conversation uuid, author uuid, api_key uuid, reply boolean)
      cross join lateral (values ('user', i.author), ('key', i.api_key)) as p (scope, id)
      where i.reply is distinct from false and p.id is not null
    ) c
    join budget_windows w on w.scope = c.scope and w.scope_id = c.id
      and ((w.period = 'day' and w.starts_on = today) or (w.period = 'month' and w.starts_on = month))
    -- Those that this transaction has locked are free to be locked again.
    where not exists (
      select 1 from budget_windows o where o.scope = w.scope and o.scope_id = w.scope_id and o.period = w.period
        and o.starts_on = w.starts_on for no key update skip locked));
end
$$;
