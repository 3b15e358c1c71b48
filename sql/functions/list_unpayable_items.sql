-- Returns the items of a batch of sends whose user's or key's budget is locked by another transaction, and later items
-- of the same authors, to keep their order. Locks the other budgets. Only considers items that will be answered by a model
-- with a price. p_items, p_default_model and p_budget: as in send_messages. p_busy: conversations to ignore. The caller
-- must have locked all other conversations of the items, so that their settings don't change.
create or replace function list_unpayable_items(p_items json, p_default_model text, p_budget jsonb, p_busy uuid[])
returns bigint[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  -- Arrays of the same length: the index of an item, and one of its payers.
  items bigint[];
  scopes text[];
  payers uuid[];
  days date[];
  unpayable bigint[];
begin
  select array_agg(i.n), array_agg(p.scope), array_agg(p.id), array_agg((now() at time zone 'utc')::date)
  into items, scopes, payers, days
  from rows from (
    json_to_recordset(p_items) as (
      conversation uuid, author uuid, api_key uuid, reply boolean, mentioned boolean, model text)
  ) with ordinality as i (conversation, author, api_key, reply, mentioned, model, n)
  cross join lateral (
    select x.reply_mode, x.model from conversations x where x.id = i.conversation limit 1
  ) c
  cross join lateral (
    values ('key', case when p_budget ? 'key_limits' then i.api_key end), ('user', i.author)
  ) as p (scope, id)
  where p.id is not null and (p_busy is null or i.conversation <> all (p_busy))
    and coalesce(i.reply, c.reply_mode = 'always' or (c.reply_mode = 'mention' and i.mentioned))
    and find_priced_model(coalesce(i.model, c.model, p_default_model), p_budget) is not null;
  if items is null then
    return null;
  end if;
  unpayable := lock_windows(items, scopes, payers, days);
  if unpayable is null then
    return null;
  end if;
  return (
    select array_agg(b.n)
    from (
      select i.n, bool_or(i.n = any (unpayable)) over (partition by i.conversation, i.author order by i.n) as is_behind
      from rows from (json_to_recordset(p_items) as (conversation uuid, author uuid))
        with ordinality as i (conversation, author, n)
    ) b
    where b.is_behind
  );
end
$$;
