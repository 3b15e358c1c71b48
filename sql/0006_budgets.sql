-- Budgets (docs/decisions/0030): what a scope has spent in a day and in a month of UTC, and what is reserved there for
-- answers that are still being written. Locks are always taken in this order: conversation, reservation, window (by
-- scope, scope_id, period).
create table budget_windows (
  scope           text not null check (scope in ('user', 'key')),
  scope_id        uuid not null,
  period          text not null check (period in ('day', 'month')),
  starts_on       date not null,
  spent_tokens    bigint not null default 0,
  spent_usd       numeric(18, 8) not null default 0,
  reserved_tokens bigint not null default 0 check (reserved_tokens >= 0),
  reserved_usd    numeric(18, 8) not null default 0 check (reserved_usd >= 0),
  primary key (scope, scope_id, period, starts_on)
);

create table budget_reservations (
  -- The generation that it is for, or an id of its own where nothing else is stored.
  id         uuid not null,
  scope      text not null,
  scope_id   uuid not null,
  starts_on  date not null,
  tokens     bigint not null check (tokens >= 0),
  usd        numeric(18, 8) not null check (usd >= 0),
  -- Null: it lives as long as its generation does. Otherwise its holder renews it.
  expires_at timestamptz,
  primary key (id, scope)
);

-- Reserves in the windows of today, or returns the period that has no room: the one that ends last, of both.
-- p_limits: {"day_tokens", "day_usd", "month_tokens", "month_usd"}; what is absent is not limited.
create function reserve_budget(
  p_id uuid, p_scope text, p_scope_id uuid, p_tokens bigint, p_usd numeric, p_limits jsonb, p_expires_at timestamptz
)
returns text
language plpgsql
as $$
declare
  today date := (now() at time zone 'utc')::date;
  month date := date_trunc('month', today)::date;
  exceeded text;
begin
  insert into budget_windows (scope, scope_id, period, starts_on)
  values (p_scope, p_scope_id, 'day', today), (p_scope, p_scope_id, 'month', month)
  on conflict do nothing;
  perform 1 from budget_windows w
  where w.scope = p_scope and w.scope_id = p_scope_id
    and ((w.period = 'day' and w.starts_on = today) or (w.period = 'month' and w.starts_on = month))
  order by w.period for update;

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
  insert into budget_reservations (id, scope, scope_id, starts_on, tokens, usd, expires_at)
  values (p_id, p_scope, p_scope_id, today, p_tokens, p_usd, p_expires_at);
  return null;
end
$$;

-- Ends the reservations of p_ids, each with what it was really used for. p_users are charged where nothing was reserved.
-- What was reserved on a day is charged to that day, also when its answer ends on the next one.
create function settle_budgets(p_ids uuid[], p_users uuid[], p_tokens bigint[], p_usd numeric[])
returns void
language plpgsql
as $$
declare
  charge record;
begin
  for charge in
    with ended as (
      delete from budget_reservations r where r.id = any (p_ids) returning r.*
    ),
    charges as (
      select coalesce(e.scope, 'user') as scope, coalesce(e.scope_id, i.user_id) as scope_id,
        coalesce(e.starts_on, (now() at time zone 'utc')::date) as starts_on,
        i.tokens, i.usd, coalesce(e.tokens, 0) as reserved_tokens, coalesce(e.usd, 0) as reserved_usd
      from unnest(p_ids, p_users, p_tokens, p_usd) as i (id, user_id, tokens, usd)
      left join ended e on e.id = i.id
    )
    select c.scope, c.scope_id, p.period,
      case p.period when 'day' then c.starts_on else date_trunc('month', c.starts_on)::date end as starts_on,
      sum(c.tokens)::bigint as tokens, sum(c.usd) as usd,
      sum(c.reserved_tokens)::bigint as reserved_tokens, sum(c.reserved_usd) as reserved_usd
    from charges c cross join (values ('day'), ('month')) as p (period)
    where c.scope_id is not null and (c.tokens > 0 or c.usd > 0 or c.reserved_tokens > 0 or c.reserved_usd > 0)
    group by 1, 2, 3, 4 order by 1, 2, 3, 4
  loop
    insert into budget_windows as w (scope, scope_id, period, starts_on, spent_tokens, spent_usd)
    values (charge.scope, charge.scope_id, charge.period, charge.starts_on, charge.tokens, charge.usd)
    on conflict (scope, scope_id, period, starts_on) do update set
      spent_tokens = w.spent_tokens + charge.tokens, spent_usd = w.spent_usd + charge.usd,
      reserved_tokens = w.reserved_tokens - charge.reserved_tokens,
      reserved_usd = w.reserved_usd - charge.reserved_usd;
  end loop;
end
$$;

-- About as many bytes as the shortest tokens of texts have on average: so the estimate is rather too high.
create function estimate_tokens(p_bytes bigint) returns bigint language sql immutable as 'select (p_bytes + 2) / 3';

-- Reserves for one answer: the prompt that it may need, the longest answer, and what both cost with this model.
-- p_budget: {"limits", "answer_tokens", "prompt_messages", "prompt_tokens_extra", "default_model",
-- "models": {model: [USD per million tokens in, out, tokens that a prompt has at most]}}.
create function reserve_answer(
  p_generation uuid, p_user uuid, p_conversation uuid, p_content_bytes bigint, p_model text, p_budget jsonb
)
returns text
language plpgsql
as $$
declare
  asked text := case when p_budget -> 'models' ? p_model then p_model else p_budget ->> 'default_model' end;
  rule jsonb := p_budget -> 'models' -> asked;
  answer_tokens bigint := (p_budget ->> 'answer_tokens')::bigint;
  history_bytes bigint;
  prompt_tokens bigint;
begin
  -- The built-in model costs nothing, and is there for everybody.
  if asked like 'offline/%' then
    return null;
  end if;
  select coalesce(sum(octet_length(h.content)), 0) into history_bytes from (
    select m.content from messages m where m.conversation_id = p_conversation and m.deleted_at is null
    order by m.seq desc limit (p_budget ->> 'prompt_messages')::int) h;
  prompt_tokens := (p_budget ->> 'prompt_tokens_extra')::bigint
    + least(estimate_tokens(history_bytes + p_content_bytes), (rule ->> 2)::bigint);
  return reserve_budget(p_generation, 'user', p_user, prompt_tokens + answer_tokens,
    (prompt_tokens * (rule ->> 0)::numeric + answer_tokens * (rule ->> 1)::numeric) / 1000000,
    p_budget -> 'limits', null);
end
$$;
