-- Sums bigints. The built-in sum(bigint) uses numeric, which takes a lot of memory for many groups.
create or replace aggregate sum_exactly(bigint) (sfunc = int8pl, stype = bigint, parallel = safe, combinefunc = int8pl);

-- Sums the slots of the newest complete day that isn't summed yet. Returns whether there was one.
create or replace function roll_up_analytics_day() returns boolean
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
as $$
declare
  due timestamptz;
  until_at timestamptz;
  none constant bit(8192) := repeat('0', 8192)::bit(8192);
begin
  perform 1 from analytics_state for update;
  select d.day into due from analytics_days d
  where not d.is_rolled_up and d.day <= (select s.frontier - interval '1 day' from analytics_state s)
    and not exists (
      select from analytics_stale_slots q where q.slot >= d.day and q.slot < d.day + interval '1 day')
  order by d.day desc limit 1;
  if due is null then
    return false;
  end if;
  until_at := due + interval '1 day';

  delete from analytics_day_figures x where x.day = due;
  insert into analytics_day_figures
  with slots as materialized (
    select * from analytics_slot_figures s where s.slot >= due and s.slot < until_at
  ),
  tokens as (
    select b.model, array_agg(b.bucket order by b.bucket) as buckets, array_agg(b.count order by b.bucket) as counts
    from (
      select s.model, x.bucket, sum(x.count)::bigint as count
      from slots s cross join lateral unnest(s.first_token_buckets, s.first_token_counts) as x (bucket, count)
      group by s.model, x.bucket
    ) b group by b.model
  )
  select due, s.model, sum(s.messages), sum(s.system_messages), sum(s.user_messages), sum(s.assistant_messages),
    sum(s.tool_messages), sum(s.generations), sum(s.failed_generations), sum(s.input_tokens), sum(s.output_tokens),
    sum(s.cached_input_tokens), sum(s.reasoning_tokens), sum(s.cost_usd), sum(s.positive_feedback),
    sum(s.negative_feedback), coalesce(min(t.buckets), '{}'), coalesce(min(t.counts), '{}'), 0
  from slots s left join tokens t on t.model = s.model group by s.model;
  insert into analytics_day_figures
  select due, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{}', '{}', s.sessions
  from (select sum(x.sessions) as sessions from analytics_slot_sessions x where x.slot >= due and x.slot < until_at) s
  where s.sessions > 0
  on conflict (day, model) do update set sessions = excluded.sessions;

  delete from analytics_day_actives x where x.day = due;
  insert into analytics_day_actives
  select due, x.kind, x.n / 8192, bit_or(set_bit(none, x.n % 8192, 1))
  from (
    select 'user' as kind, unnest(s.users) as n from analytics_slot_actives s where s.slot >= due and s.slot < until_at
    union
    select 'conversation', unnest(s.conversations) from analytics_slot_actives s
    where s.slot >= due and s.slot < until_at
  ) x
  group by x.kind, x.n / 8192;

  perform count_analytics_arrivals(due);

  delete from analytics_day_users x where x.day = due;
  insert into analytics_day_users (day, n, messages, generations, failed_generations, input_tokens, output_tokens, cost)
  select due, u.n, sum(u.messages), sum(u.generations), sum(u.failed_generations), sum_exactly(u.input_tokens),
    sum_exactly(u.output_tokens), sum_exactly(u.cost)
  from analytics_slot_users s
  cross join lateral unnest(s.users, s.messages, s.generations, s.failed_generations, s.input_tokens, s.output_tokens, s.cost)
    as u (n, messages, generations, failed_generations, input_tokens, output_tokens, cost)
  where s.slot >= due and s.slot < until_at group by u.n order by u.n;

  update analytics_days d set is_rolled_up = true where d.day = due;
  return true;
end
$$;

-- Fills analytics_slot_arrivals for a day, from its slots and those of the previous 25 hours, the longest day in any
-- time zone.
create or replace function count_analytics_arrivals(p_day timestamptz) returns void
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set work_mem = '32MB'
as $$
declare
  slots constant integer := 100;
begin
  delete from analytics_slot_arrivals x where x.slot >= p_day and x.slot < p_day + interval '1 day';
  insert into analytics_slot_arrivals (slot, users, conversations)
  with actives as materialized (
    select a.slot, (extract(epoch from a.slot - p_day) / 900)::integer as place, a.users, a.conversations
    from analytics_slot_actives a where a.slot >= p_day - interval '25 hours' and a.slot < p_day + interval '1 day'
  ),
  absences as (
    select x.is_user, x.place,
      least(slots, x.place - lag(x.place, 1, x.place - slots) over (partition by x.is_user, x.n order by x.place)) as slots
    from (
      select true as is_user, a.place, unnest(a.users) as n from actives a
      union all
      select false, a.place, unnest(a.conversations) from actives a
    ) x
  ),
  counts as (
    select x.is_user, x.place, x.slots, count(*) as count from absences x where x.place >= 0 group by 1, 2, 3
  ),
  sums as (
    select a.slot, u.is_user, k.k, sum(c.count) over (partition by a.slot, u.is_user order by k.k desc) as sum
    from actives a
    cross join (values (true), (false)) as u (is_user)
    cross join generate_series(1, slots) as k (k)
    left join counts c on c.place = a.place and c.is_user = u.is_user and c.slots = k.k
    where a.place >= 0
  )
  select x.slot, array_agg(coalesce(x.sum, 0)::integer order by x.k) filter (where x.is_user),
    array_agg(coalesce(x.sum, 0)::integer order by x.k) filter (where not x.is_user)
  from sums x group by x.slot;
end
$$;
