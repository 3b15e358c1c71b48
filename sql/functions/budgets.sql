-- Budgets (docs/decisions/0030, 0032). A window is a row with what a payer (a user or an API key) has spent and reserved
-- on a day or in a month. A request with an API key has two reservations with the same id: for the key and for the user.
-- To avoid deadlocks, the user's windows are locked before the key's windows, and the windows of one payer are locked in
-- the order of their periods. So a key's windows, which many users may share, are never locked while waiting for one
-- user's windows.

-- Returns the key of a payer's advisory lock.
create or replace function hash_payer(p_scope text, p_id uuid) returns bigint language sql immutable
as $$select hashtextextended(p_scope || ' ' || p_id::text, 5030)$$;

-- Creates a payer's windows for a day and its month, unless they exist. If another transaction has inserted the same row
-- and not committed yet, an insert waits for it, in an order that can't be controlled. So windows are only inserted while
-- holding an advisory lock on their payer. That lock is acquired before row locks, and a batch can try to acquire it
-- without waiting (lock_windows).
create or replace function open_windows(p_scope text, p_id uuid, p_day date)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
declare
  month date := date_trunc('month', p_day)::date;
begin
  if (select w.scope_id from budget_windows w
      where w.scope = p_scope and w.scope_id = p_id and w.period = 'day' and w.starts_on = p_day limit 1) is not null
    and (select w.scope_id from budget_windows w
      where w.scope = p_scope and w.scope_id = p_id and w.period = 'month' and w.starts_on = month limit 1) is not null then
    return;
  end if;
  perform pg_advisory_xact_lock(hash_payer(p_scope, p_id));
  insert into budget_windows (scope, scope_id, period, starts_on)
  values (p_scope, p_id, 'day', p_day), (p_scope, p_id, 'month', month)
  on conflict do nothing;
end
$$;

-- Creates and locks a payer's windows for a day and its month. Waits if they are locked.
create or replace function wait_for_windows(p_scope text, p_id uuid, p_day date)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  perform open_windows(p_scope, p_id, p_day);
  perform 1 from budget_windows w
  where w.scope = p_scope and w.scope_id = p_id
    and ((w.period = 'day' and w.starts_on = p_day)
      or (w.period = 'month' and w.starts_on = date_trunc('month', p_day)::date))
  order by w.period for no key update;
end
$$;

-- Makes a reservation in today's windows and returns null, or returns the exhausted period ('month' if both are
-- exhausted). p_limits: {"day_tokens", "day_usd", "month_tokens", "month_usd"}; an absent limit means unlimited.
create or replace function reserve_budget(
  p_id uuid, p_scope text, p_scope_id uuid, p_tokens bigint, p_usd numeric, p_limits jsonb
)
returns text
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
declare
  today date := (now() at time zone 'utc')::date;
  month date := date_trunc('month', today)::date;
  exceeded text;
begin
  perform wait_for_windows(p_scope, p_scope_id, today);

  select w.period into exceeded from budget_windows w
  where w.scope = p_scope and w.scope_id = p_scope_id
    and ((w.period = 'day' and w.starts_on = today) or (w.period = 'month' and w.starts_on = month))
    and (w.spent_tokens + w.reserved_tokens + p_tokens > (p_limits ->> (w.period || '_tokens'))::bigint
      or w.spent_usd + w.reserved_usd + p_usd > (p_limits ->> (w.period || '_usd'))::numeric)
  order by w.period desc limit 1;
  if exceeded is not null then
    return exceeded;
  end if;

  update budget_windows w set reserved_tokens = w.reserved_tokens + p_tokens, reserved_usd = w.reserved_usd + p_usd
  where w.scope = p_scope and w.scope_id = p_scope_id
    and ((w.period = 'day' and w.starts_on = today) or (w.period = 'month' and w.starts_on = month));
  insert into budget_reservations (id, scope, scope_id, starts_on, tokens, usd)
  values (p_id, p_scope, p_scope_id, today, p_tokens, p_usd);
  return null;
end
$$;

-- Deletes a reservation that was made in this transaction, because the user's budget turned out to be exhausted.
create or replace function take_back_reservation(p_id uuid, p_scope text)
returns void
language sql
as $$
  with deleted as (
    delete from budget_reservations r where r.id = p_id and r.scope = p_scope returning r.*
  )
  update budget_windows w set reserved_tokens = w.reserved_tokens - e.tokens, reserved_usd = w.reserved_usd - e.usd
  from deleted e
  where w.scope = e.scope and w.scope_id = e.scope_id
    and ((w.period = 'day' and w.starts_on = e.starts_on)
      or (w.period = 'month' and w.starts_on = date_trunc('month', e.starts_on)::date));
$$;

-- Makes the reservation for a request's user, after the one for its key. If the user's budget is exhausted, deletes the
-- key's and returns the exhausted period.
create or replace function reserve_for_user(
  p_id uuid, p_user uuid, p_tokens bigint, p_usd numeric, p_limits jsonb
)
returns text
language plpgsql
as $$
declare
  exceeded text := reserve_budget(p_id, 'user', p_user, p_tokens, p_usd, p_limits);
begin
  if exceeded is not null then
    perform take_back_reservation(p_id, 'key');
  end if;
  return exceeded;
end
$$;

-- Makes reservations for a request's key, if it has one, and for its user. If either budget is exhausted, makes neither
-- and returns the exhausted period. p_budget has the user's "limits" and the "key_limits", which are absent if keys are
-- not limited.
create or replace function reserve_budgets(
  p_id uuid, p_user uuid, p_key uuid, p_tokens bigint, p_usd numeric, p_budget jsonb
)
returns text
language plpgsql
as $$
declare
  exceeded text;
begin
  if p_key is not null and p_budget ? 'key_limits' then
    perform wait_for_windows('user', p_user, (now() at time zone 'utc')::date);
    exceeded := reserve_budget(p_id, 'key', p_key, p_tokens, p_usd, p_budget -> 'key_limits');
  end if;
  if exceeded is null then
    exceeded := reserve_for_user(p_id, p_user, p_tokens, p_usd, p_budget -> 'limits');
  end if;
  return exceeded;
end
$$;

-- Estimates the number of tokens in a text of p_bytes bytes. Even the densest text has about 3 bytes per token on
-- average, so the estimate is usually too high.
create or replace function estimate_tokens(p_bytes bigint) returns bigint language sql immutable
as 'select (p_bytes + 2) / 3';

-- Returns the model whose price is charged, or null for a built-in model, which is free.
create or replace function find_priced_model(p_model text, p_budget jsonb) returns text language sql immutable
as $$
  select case when m.name not like 'offline/%' then m.name end
  from (select case when p_budget -> 'models' ? p_model then p_model else p_budget ->> 'default_model' end as name) m
$$;

-- Returns upper bounds for one answer, as {tokens, USD}: the tokens of the prompt plus those of the longest answer, and
-- their price. Returns null for a built-in model, which is free. p_budget: {"limits", "answer_tokens",
-- "prompt_messages", "prompt_tokens_extra", "default_model", "models": {model: [USD per million input tokens, USD per
-- million output tokens, maximum tokens of a prompt]}}.
create or replace function estimate_answer(
  p_conversation uuid, p_content_bytes bigint, p_model text, p_budget jsonb
)
returns numeric[]
language plpgsql
as $$
declare
  priced_model text := find_priced_model(p_model, p_budget);
  rule jsonb := p_budget -> 'models' -> priced_model;
  answer_tokens bigint := (p_budget ->> 'answer_tokens')::bigint;
  history_bytes bigint;
  prompt_tokens bigint;
begin
  if priced_model is null then
    return null;
  end if;
  select coalesce(sum(octet_length(h.content)), 0) into history_bytes from (
    select m.content from messages m where m.conversation_id = p_conversation and m.deleted_at is null
    order by m.seq desc limit (p_budget ->> 'prompt_messages')::int) h;
  prompt_tokens := (p_budget ->> 'prompt_tokens_extra')::bigint
    + least(estimate_tokens(history_bytes + p_content_bytes), (rule ->> 2)::bigint);
  return array[prompt_tokens + answer_tokens,
    (prompt_tokens * (rule ->> 0)::numeric + answer_tokens * (rule ->> 1)::numeric) / 1000000];
end
$$;

-- Makes the reservation for one answer that is stored in the same transaction. If the payer is locked, this function
-- waits only briefly, because its transaction has locked the conversation.
create or replace function reserve_answer(
  p_generation uuid, p_user uuid, p_key uuid, p_conversation uuid, p_content_bytes bigint, p_model text, p_budget jsonb
)
returns text
language plpgsql
set plan_cache_mode = force_generic_plan
set lock_timeout = '50ms'
as $$
declare
  estimate numeric[] := estimate_answer(p_conversation, p_content_bytes, p_model, p_budget);
begin
  if estimate is null then
    return null;
  end if;
  return reserve_budgets(p_generation, p_user, p_key, estimate[1]::bigint, estimate[2], p_budget);
end
$$;

-- Settles the reservations p_ids with the usage p_tokens and p_usd. If a reservation doesn't exist, the user in p_users
-- is charged. A reservation is charged to the day on which it was made, even if its answer ends the next day.
create or replace function settle_budgets(p_ids uuid[], p_users uuid[], p_tokens bigint[], p_usd numeric[])
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
declare
  charge record;
begin
  for charge in
    with deleted as (
      delete from budget_reservations r where r.id = any (p_ids) returning r.*
    ),
    charges as (
      select coalesce(e.scope, 'user') as scope, coalesce(e.scope_id, i.user_id) as scope_id,
        coalesce(e.starts_on, (now() at time zone 'utc')::date) as starts_on,
        i.tokens, i.usd, coalesce(e.tokens, 0) as reserved_tokens, coalesce(e.usd, 0) as reserved_usd
      from unnest(p_ids, p_users, p_tokens, p_usd) as i (id, user_id, tokens, usd)
      left join deleted e on e.id = i.id
    )
    select c.scope, c.scope_id, p.period,
      case p.period when 'day' then c.starts_on else date_trunc('month', c.starts_on)::date end as starts_on,
      sum(c.tokens)::bigint as tokens, sum(c.usd) as usd,
      sum(c.reserved_tokens)::bigint as reserved_tokens, sum(c.reserved_usd) as reserved_usd
    from charges c cross join (values ('day'), ('month')) as p (period)
    where c.scope_id is not null and (c.tokens > 0 or c.usd > 0 or c.reserved_tokens > 0 or c.reserved_usd > 0)
    group by 1, 2, 3, 4 order by 1 desc, 2, 3, 4
  loop
    -- One payer at a time, as in all other code: a payer's windows are created and updated before the next payer's.
    if charge.period = 'day' then
      perform open_windows(charge.scope, charge.scope_id, charge.starts_on);
    end if;
    update budget_windows w set
      spent_tokens = w.spent_tokens + charge.tokens, spent_usd = w.spent_usd + charge.usd,
      -- If the user was deleted, these windows are new and have nothing reserved. That must not prevent the answer from
      -- being completed.
      reserved_tokens = greatest(0, w.reserved_tokens - charge.reserved_tokens),
      reserved_usd = greatest(0, w.reserved_usd - charge.reserved_usd)
    where w.scope = charge.scope and w.scope_id = charge.scope_id and w.period = charge.period
      and w.starts_on = charge.starts_on;
  end loop;
end
$$;

-- Like settle_budgets, for one reservation, and idempotent for each p_charge: a caller that doesn't know whether the
-- commit succeeded can call it again.
create or replace function settle_once(p_charge uuid, p_id uuid, p_user uuid, p_tokens bigint, p_usd numeric)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_tokens > 0 or p_usd > 0 then
    insert into budget_charges (id) values (p_charge) on conflict do nothing;
    if not found then
      return;
    end if;
  end if;
  perform settle_budgets(array[p_id], array[p_user], array[p_tokens], array[p_usd]);
end
$$;

-- Like settle_once, for several reservations. All arrays have the same length. Without p_wait it doesn't wait for
-- locked payers, and returns the indexes of the charges that it skipped because of them. With p_wait it waits, up to
-- the caller's lock_timeout.
create or replace function settle_charges(
  p_charges uuid[], p_ids uuid[], p_users uuid[], p_tokens bigint[], p_usd numeric[], p_wait boolean
)
returns bigint[]
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  -- Arrays of the same length: the index of a charge, and one of its payers.
  items bigint[];
  scopes text[];
  payers uuid[];
  days date[];
  skipped bigint[];
  -- Arrays of the same length: the charges to settle. If a reservation occurs more than once, the first charge settles
  -- it, and the others are charged without a reservation.
  ids uuid[];
  users uuid[];
  tokens bigint[];
  usd numeric[];
begin
  if not p_wait then
    perform set_config('lock_timeout', '100ms', true);
    select array_agg(i.n), array_agg(c.scope), array_agg(c.id), array_agg(c.day)
    into items, scopes, payers, days
    from unnest(p_ids, p_users, p_tokens, p_usd) with ordinality as i (id, user_id, tokens, usd, n)
    -- The payers, as in settle_budgets.
    cross join lateral (
      select r.scope, r.scope_id, r.starts_on from budget_reservations r where r.id = i.id
      union all
      select 'user', i.user_id, (now() at time zone 'utc')::date
      where i.user_id is not null and (i.tokens > 0 or i.usd > 0)
        and (select r.id from budget_reservations r where r.id = i.id limit 1) is null
    ) as c (scope, id, day);
    if items is not null then
      skipped := lock_windows(items, scopes, payers, days);
    end if;
  end if;

  with charges as materialized (
    select i.*, i.tokens > 0 or i.usd > 0 as has_cost,
      row_number() over (partition by i.charge order by i.n) as charge_number
    from unnest(p_charges, p_ids, p_users, p_tokens, p_usd) with ordinality as i (charge, id, user_id, tokens, usd, n)
    where skipped is null or i.n <> all (skipped)
  ),
  new_charges as (
    insert into budget_charges (id)
    select a.charge from charges a where a.has_cost and a.charge_number = 1 order by a.charge
    on conflict do nothing returning id
  ),
  due_charges as (
    select a.*, row_number() over (partition by a.id order by a.n) as id_number from charges a
    where not a.has_cost or (a.charge_number = 1 and a.charge in (select f.id from new_charges f))
  )
  select array_agg(case when d.id_number = 1 then d.id end order by d.n), array_agg(d.user_id order by d.n),
    array_agg(d.tokens order by d.n), array_agg(d.usd order by d.n)
  into ids, users, tokens, usd from due_charges d;
  if ids is not null then
    perform settle_budgets(ids, users, tokens, usd);
  end if;
  return skipped;
end
$$;

-- Releases orphaned reservations: those with a generation that is finished or no longer exists, and those that have
-- expired. Processes the next p_rows of them after the id p_after. Skips those whose payer is locked, so it never waits.
-- Returns how many it released, and the id of the last one that it processed, or null if there are no more.
create or replace function free_reservations(p_after uuid, p_rows integer, out freed integer, out last_id uuid)
language plpgsql
set plan_cache_mode = force_generic_plan
set lock_timeout = '100ms'
as $$
declare
  orphaned_ids uuid[];
  positions bigint[];
  scopes text[];
  payers uuid[];
  days date[];
  locked_positions bigint[];
  unlocked_ids uuid[];
begin
  select array_agg(l.id order by l.id) into orphaned_ids from (
    select distinct r.id from budget_reservations r
    where r.id > p_after and (r.lease_until <= now() or (r.lease_until is null and not exists (
      select 1 from generations g where g.id = r.id and g.status <> 'finished')))
    order by r.id limit p_rows
  ) l;
  freed := 0;
  last_id := orphaned_ids[cardinality(orphaned_ids)];
  if orphaned_ids is null then
    return;
  end if;
  select array_agg(i.n), array_agg(r.scope), array_agg(r.scope_id), array_agg(r.starts_on)
  into positions, scopes, payers, days
  from unnest(orphaned_ids) with ordinality as i (id, n) join budget_reservations r on r.id = i.id;
  if positions is null then
    return;
  end if;
  locked_positions := lock_windows(positions, scopes, payers, days);
  select array_agg(i.id) into unlocked_ids from unnest(orphaned_ids) with ordinality as i (id, n)
  where locked_positions is null or i.n <> all (locked_positions);
  freed := coalesce(cardinality(unlocked_ids), 0);
  if freed > 0 then
    perform settle_budgets(unlocked_ids, array_fill(null::uuid, array[freed]), array_fill(0::bigint, array[freed]),
      array_fill(0::numeric, array[freed]));
  end if;
end
$$;
