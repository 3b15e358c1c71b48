-- These functions read the figures of a time range from three sources: summed days; slots before, between and after
-- these days; and, for slots that are only partly in the range, the messages themselves.

-- Divides a time range into days, other slots (gaps) and parts of slots (edges). Gaps are ranges of whole slots.
--
-- p_counted_until: everything created before this time is counted. If p_to isn't before it, the last slot has no counted
-- messages after p_to, so the whole slot is used. p_has_days: whether summed days can be used.
create or replace function find_analytics_cover(
  p_from timestamptz, p_to timestamptz, p_counted_until timestamptz, p_has_days boolean,
  out day_froms timestamptz[], out day_tos timestamptz[], out gap_froms timestamptz[], out gap_tos timestamptz[],
  out edge_froms timestamptz[], out edge_tos timestamptz[]
)
language plpgsql stable
as $$
declare
  width constant interval := '15 minutes';
  from_at timestamptz := analytics_slot(p_from);
  to_at timestamptz := analytics_slot(p_to);
  days timestamptz[] := '{}';
begin
  day_froms := '{}';
  day_tos := '{}';
  gap_froms := '{}';
  gap_tos := '{}';
  edge_froms := '{}';
  edge_tos := '{}';
  if p_to >= p_counted_until then
    to_at := greatest(from_at, analytics_slot(p_counted_until) + width);
    if from_at < p_from and p_from >= p_counted_until then
      return;
    end if;
  end if;
  if from_at < p_from then
    from_at := from_at + width;
    edge_froms := edge_froms || p_from;
    edge_tos := edge_tos || least(from_at, p_to);
  end if;
  if p_to < p_counted_until and to_at < p_to and to_at >= from_at then
    edge_froms := edge_froms || to_at;
    edge_tos := edge_tos || p_to;
  end if;
  if to_at <= from_at then
    return;
  end if;
  if p_has_days then
    select coalesce(array_agg(d.day order by d.day), '{}') into days from analytics_days d
    where d.is_rolled_up and d.day >= from_at and d.day + interval '1 day' <= to_at;
    -- Ranges, because the planner examines each element of a list.
    select coalesce(array_agg(r.from_at order by r.from_at), '{}'), coalesce(array_agg(r.to_at order by r.from_at), '{}')
    into day_froms, day_tos from (
      select min(x.day) as from_at, max(x.day) + interval '1 day' as to_at
      from (select d.day, d.day - row_number() over (order by d.day) * interval '1 day' as run from unnest(days) as d (day)) x
      group by x.run
    ) r;
  end if;
  select array_agg(g.from_at), array_agg(g.to_at) into gap_froms, gap_tos from (
    select coalesce(lag(x.until_at) over (order by x.day), from_at) as from_at, x.day as to_at
    from (
      select d.day, d.day + interval '1 day' as until_at from unnest(days) as d (day)
      union all
      select to_at, null
    ) x
  ) g where g.from_at < g.to_at;
end
$$;

-- Returns the figures of a time range, in any number of rows, which the caller sums. `at` is the start of the slot. With
-- p_has_days, it is the start of the day in rows that come from summed days.
create or replace function read_analytics(
  p_from timestamptz, p_to timestamptz, p_counted_until timestamptz, p_has_days boolean
)
returns table (
  at timestamptz, model text, messages bigint, system_messages bigint, user_messages bigint, assistant_messages bigint,
  tool_messages bigint, generations bigint, failed_generations bigint, input_tokens bigint, output_tokens bigint,
  cached_input_tokens bigint, reasoning_tokens bigint, cost_usd numeric, positive_feedback bigint,
  negative_feedback bigint, first_token_buckets smallint[], first_token_counts bigint[], sessions bigint
)
language plpgsql stable
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
declare
  cover record;
begin
  select * into cover from find_analytics_cover(p_from, p_to, p_counted_until, p_has_days);
  return query
  select d.* from unnest(cover.day_froms, cover.day_tos) as r (from_at, to_at)
  join analytics_day_figures d on d.day >= r.from_at and d.day < r.to_at;
  return query
  select f.*, 0::bigint from unnest(cover.gap_froms, cover.gap_tos) as g (from_at, to_at)
  join analytics_slot_figures f on f.slot >= g.from_at and f.slot < g.to_at;
  return query
  select s.slot, '', 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
    0::bigint, 0::bigint, 0::numeric, 0::bigint, 0::bigint, '{}'::smallint[], '{}'::bigint[], s.sessions
  from unnest(cover.gap_froms, cover.gap_tos) as g (from_at, to_at)
  join analytics_slot_sessions s on s.slot >= g.from_at and s.slot < g.to_at;
  if cardinality(cover.edge_froms) = 0 then
    return;
  end if;
  return query
  select f.slot, f.model, 1::bigint, f.system_messages::bigint, f.user_messages::bigint, f.assistant_messages::bigint,
    f.tool_messages::bigint, f.generations::bigint, f.failed_generations::bigint, f.input_tokens, f.output_tokens,
    f.cached_input_tokens, f.reasoning_tokens, f.cost_usd, f.positive_feedback, f.negative_feedback,
    array_remove(array[f.first_token_bucket], null),
    case when f.first_token_bucket is null then '{}' else array[1::bigint] end, 0::bigint
  from list_analytics_facts(cover.edge_froms, cover.edge_tos) f;
  return query
  select analytics_slot(s.created_at), '', 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::bigint,
    0::bigint, 0::bigint, 0::bigint, 0::bigint, 0::numeric, 0::bigint, 0::bigint, '{}'::smallint[], '{}'::bigint[],
    1::bigint
  from unnest(cover.edge_froms, cover.edge_tos) as e (from_at, to_at)
  join sessions s on s.created_at >= e.from_at and s.created_at < e.to_at
    and s.id >= first_id_at(e.from_at - interval '1 hour') and s.id < first_id_at(e.to_at + interval '1 hour');
end
$$;

-- Returns how many distinct users and conversations were active in a time range.
create or replace function count_analytics_actives(
  p_from timestamptz, p_to timestamptz, p_counted_until timestamptz, out users bigint, out conversations bigint
)
language plpgsql stable
set plan_cache_mode = force_custom_plan
set work_mem = '64MB'
set jit = off
as $$
declare
  cover record;
begin
  select * into cover from find_analytics_cover(p_from, p_to, p_counted_until, true);
  with slots as materialized (
    select a.users, a.conversations from unnest(cover.gap_froms, cover.gap_tos) as g (from_at, to_at)
    join analytics_slot_actives a on a.slot >= g.from_at and a.slot < g.to_at
  ),
  edges as materialized (
    select * from list_edge_actives(cover.edge_froms, cover.edge_tos)
  ),
  slot_ids as (
    select 'user' as kind, unnest(s.users) as n from slots s
    union
    select 'conversation', unnest(s.conversations) from slots s
    union
    select e.kind, e.n from edges e where e.n is not null
  ),
  day_bitmaps as materialized (
    select d.kind, d.segment, bit_or(d.bits) as bits from unnest(cover.day_froms, cover.day_tos) as r (from_at, to_at)
    join analytics_day_actives d on d.day >= r.from_at and d.day < r.to_at group by d.kind, d.segment
  ),
  counted as (
    select w.kind, bit_count(w.bits) as count from day_bitmaps w
    union all
    select s.kind, count(*) from slot_ids s left join day_bitmaps w on w.kind = s.kind and w.segment = s.n / 8192
    where w.bits is null or get_bit(w.bits, s.n % 8192) = 0 group by s.kind
    union all
    select e.kind, count(distinct e.id) from edges e where e.n is null group by e.kind
  )
  select coalesce(sum(c.count) filter (where c.kind = 'user'), 0)::bigint,
    coalesce(sum(c.count) filter (where c.kind = 'conversation'), 0)::bigint
  into users, conversations from counted c;
end
$$;

-- Lists the users and conversations that were active in parts of slots, by reading messages. `n` is the integer that
-- represents the id in analytics, or null if the id has none yet.
create or replace function list_edge_actives(p_froms timestamptz[], p_tos timestamptz[])
returns table (slot timestamptz, kind text, id uuid, n integer)
language plpgsql stable
as $$
#variable_conflict use_column
begin
  if cardinality(p_froms) = 0 then
    return;
  end if;
  return query
  with facts as materialized (select * from list_analytics_facts(p_froms, p_tos))
  select f.slot, 'user', f.owner_id, u.n from facts f left join analytics_users u on u.user_id = f.owner_id
  where f.owner_id is not null and not f.is_answer
  union
  select f.slot, 'conversation', f.conversation_id, c.n
  from facts f left join analytics_conversations c on c.conversation_id = f.conversation_id;
end
$$;

-- Returns how many distinct users and conversations were active in each part of a time range. p_starts has the start
-- times of the parts; `part` is an index into p_starts. p_has_days: whether the parts are UTC days.
create or replace function list_analytics_actives(
  p_from timestamptz, p_to timestamptz, p_counted_until timestamptz, p_has_days boolean, p_starts timestamptz[]
)
returns table (part integer, users bigint, conversations bigint)
language plpgsql stable
set plan_cache_mode = force_custom_plan
set work_mem = '64MB'
set jit = off
as $$
#variable_conflict use_column
declare
  cover record;
  -- The parts that are counted from analytics_slot_arrivals: their indexes, start times and end times.
  arrival_parts integer[] := '{}';
  arrival_froms timestamptz[] := '{}';
  arrival_tos timestamptz[] := '{}';
  -- The parts that are counted from the sets of active users and conversations of their slots.
  slot_parts integer[];
  slot_part_froms timestamptz[];
  slot_part_tos timestamptz[];
begin
  select * into cover from find_analytics_cover(p_from, p_to, p_counted_until, p_has_days);
  if not p_has_days then
    select coalesce(array_agg(x.part), '{}'), coalesce(array_agg(x.from_at), '{}'), coalesce(array_agg(x.to_at), '{}')
    into arrival_parts, arrival_froms, arrival_tos
    from (
      select s.part::integer as part, s.at as from_at, lead(s.at) over (order by s.part) as to_at
      from unnest(p_starts) with ordinality as s (at, part)
    ) x
    where x.from_at >= p_from and x.to_at <= p_to and x.to_at <= x.from_at + interval '25 hours'
      and x.from_at = analytics_slot(x.from_at) and x.to_at = analytics_slot(x.to_at)
      and not exists (
        select from analytics_days d
        where not d.is_rolled_up and d.day > x.from_at - interval '1 day' and d.day < x.to_at);
  end if;
  select array_agg(x.part), array_agg(greatest(g.from_at, x.from_at)), array_agg(least(g.to_at, x.to_at))
  into slot_parts, slot_part_froms, slot_part_tos
  from unnest(cover.gap_froms, cover.gap_tos) as g (from_at, to_at)
  join (
    select s.part::integer as part, s.at as from_at, coalesce(lead(s.at) over (order by s.part), 'infinity') as to_at
    from unnest(p_starts) with ordinality as s (at, part)
  ) x on x.from_at < g.to_at and x.to_at > g.from_at
  where x.part <> all (arrival_parts);
  return query
  select q.part, sum(a.users[k.k])::bigint, sum(a.conversations[k.k])::bigint
  from unnest(arrival_parts, arrival_froms, arrival_tos) as q (part, from_at, to_at)
  join analytics_slot_arrivals a on a.slot >= q.from_at and a.slot < q.to_at
  cross join lateral (select (extract(epoch from a.slot - q.from_at) / 900)::integer + 1 as k) k
  group by q.part;
  return query
  with slots as materialized (
    select x.part, a.users, a.conversations
    from unnest(slot_parts, slot_part_froms, slot_part_tos) as x (part, from_at, to_at)
    join analytics_slot_actives a on a.slot >= x.from_at and a.slot < x.to_at
  ),
  edges as materialized (
    select greatest(1, width_bucket(e.slot, p_starts)) as part, e.kind, e.n, e.id
    from list_edge_actives(cover.edge_froms, cover.edge_tos) e
  ),
  counted as (
    select greatest(1, width_bucket(d.day, p_starts)) as part, d.kind, bit_count(d.bits) as count
    from unnest(cover.day_froms, cover.day_tos) as r (from_at, to_at)
    join analytics_day_actives d on d.day >= r.from_at and d.day < r.to_at
    union all
    select x.part, 'user', count(distinct x.n) from (
      select s.part, unnest(s.users) as n from slots s
      union all select e.part, e.n from edges e where e.kind = 'user'
    ) x group by x.part
    union all
    select x.part, 'conversation', count(distinct x.n) from (
      select s.part, unnest(s.conversations) as n from slots s
      union all select e.part, e.n from edges e where e.kind = 'conversation'
    ) x group by x.part
    union all
    select e.part, e.kind, count(distinct e.id) from edges e where e.n is null group by e.part, e.kind
  )
  select c.part, coalesce(sum(c.count) filter (where c.kind = 'user'), 0)::bigint,
    coalesce(sum(c.count) filter (where c.kind = 'conversation'), 0)::bigint
  from counted c group by c.part;
end
$$;

-- Returns one row of figures for each user in a time range, except for deleted users. Costs are in units of 0.00000001 USD.
create or replace function sum_user_analytics(p_from timestamptz, p_to timestamptz, p_counted_until timestamptz)
returns table (
  n integer, messages bigint, generations bigint, failed_generations bigint, input_tokens bigint, output_tokens bigint,
  cost bigint
)
language plpgsql stable
set plan_cache_mode = force_custom_plan
set work_mem = '64MB'
set jit = off
as $$
#variable_conflict use_column
declare
  cover record;
  deleted integer[];
begin
  select * into cover from find_analytics_cover(p_from, p_to, p_counted_until, true);
  deleted := array(
    select u.n from users x join analytics_users u on u.user_id = x.id
    where x.disabled_at is not null and x.deleting_at is not null
  );
  return query
  select y.n, sum(y.messages), sum(y.generations), sum(y.failed_generations), sum_exactly(y.input_tokens),
    sum_exactly(y.output_tokens), sum_exactly(y.cost)
  from (
    select d.n, d.messages, d.generations, d.failed_generations, d.input_tokens, d.output_tokens, d.cost
    from unnest(cover.day_froms, cover.day_tos) as r (from_at, to_at)
    join analytics_day_users d on d.day >= r.from_at and d.day < r.to_at
    union all
    select u.* from unnest(cover.gap_froms, cover.gap_tos) as g (from_at, to_at)
    join analytics_slot_users s on s.slot >= g.from_at and s.slot < g.to_at
    cross join lateral unnest(s.users, s.messages, s.generations, s.failed_generations, s.input_tokens, s.output_tokens, s.cost)
      as u (n, messages, generations, failed_generations, input_tokens, output_tokens, cost)
    union all
    select e.* from list_edge_users(cover.edge_froms, cover.edge_tos) e
  ) y where y.n <> all (deleted) group by y.n;
end
$$;

-- Like sum_user_analytics, for parts of slots, by reading messages. May return several rows per user.
create or replace function list_edge_users(p_froms timestamptz[], p_tos timestamptz[])
returns table (
  n integer, messages integer, generations integer, failed_generations integer, input_tokens bigint, output_tokens bigint,
  cost bigint
)
language plpgsql stable
as $$
#variable_conflict use_column
begin
  if cardinality(p_froms) = 0 then
    return;
  end if;
  return query
  select u.n, (not f.is_answer)::integer, f.generations, f.failed_generations, f.input_tokens, f.output_tokens,
    (f.cost_usd * 100000000)::bigint
  from list_analytics_facts(p_froms, p_tos) f
  join analytics_users u on u.user_id = f.owner_id
  join users x on x.id = f.owner_id and x.deleting_at is null;
end
$$;

-- Splits a time range into the hours or days of a time zone. The first part may begin before p_from. Days have 23 or 25
-- hours when the clocks change. An hour that occurs twice becomes two parts.
create or replace function list_analytics_parts(p_from timestamptz, p_to timestamptz, p_interval text, p_zone text)
returns table (starts_at timestamptz)
language plpgsql stable
as $$
declare
  first_day date := (p_from at time zone p_zone)::date;
  last_day date := (p_to at time zone p_zone)::date;
begin
  if p_interval = 'day' then
    -- Midnight may occur twice, or not at all, so a day begins at the first moment that has its date.
    return query
    select greatest(y.starts, timestamptz '0001-01-01 00:00:00+00') from (
      select x.starts, lead(x.starts) over (order by x.starts) as ends
      from (
        select distinct case when ((m.midnight - interval '1 hour') at time zone p_zone)::date = m.day
          then m.midnight - interval '1 hour' else m.midnight end as starts
        from (
          select d.day::date as day, d.day at time zone p_zone as midnight
          from generate_series(first_day::timestamp, last_day + interval '1 day', interval '1 day') as d (day)
        ) m
      ) x
    ) y
    where y.starts < p_to and (y.ends > p_from or y.ends is null)
    order by 1;
  else
    return query
    select min(s.slot) from (
      select q.slot, q.slot at time zone p_zone as local
      from generate_series(analytics_slot(p_from) - interval '2 hours', p_to - interval '1 us', interval '15 minutes') as q (slot)
    ) s
    group by date_trunc('hour', s.local), s.local - s.slot at time zone 'utc'
    having max(s.slot) + interval '15 minutes' > p_from
    order by 1;
  end if;
end
$$;
