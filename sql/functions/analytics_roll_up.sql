-- Sums bigints. The built-in sum(bigint) returns a numeric, which takes a lot of memory for many groups.
create or replace aggregate sum_exactly(bigint) (sfunc = int8pl, stype = bigint, parallel = safe, combinefunc = int8pl);

-- Sums the slots of the newest complete day that isn't summed yet. Returns whether there was one.
create or replace function roll_up_analytics_day() returns boolean
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
as $$
declare
  due_day timestamptz;
  until_at timestamptz;
  no_bits constant bit(8192) := repeat('0', 8192)::bit(8192);
begin
  perform 1 from analytics_state for update;
  select d.day into due_day from analytics_days d
  where not d.is_rolled_up and d.day <= (select s.frontier - interval '1 day' from analytics_state s)
    and not exists (
      select from analytics_stale_slots q where q.slot >= d.day and q.slot < d.day + interval '1 day')
  order by d.day desc limit 1;
  if due_day is null then
    return false;
  end if;
  until_at := due_day + interval '1 day';

  delete from analytics_day_figures x where x.day = due_day;
  insert into analytics_day_figures
  with slots as materialized (
    select * from analytics_slot_figures s where s.slot >= due_day and s.slot < until_at
  ),
  tokens as (
    select b.model, array_agg(b.bucket order by b.bucket) as buckets, array_agg(b.count order by b.bucket) as counts
    from (
      select s.model, x.bucket, sum(x.count)::bigint as count
      from slots s cross join lateral unnest(s.first_token_buckets, s.first_token_counts) as x (bucket, count)
      group by s.model, x.bucket
    ) b group by b.model
  )
  select due_day, s.model, sum(s.messages), sum(s.system_messages), sum(s.user_messages), sum(s.assistant_messages),
    sum(s.tool_messages), sum(s.generations), sum(s.failed_generations), sum(s.input_tokens), sum(s.output_tokens),
    sum(s.cached_input_tokens), sum(s.reasoning_tokens), sum(s.cost_usd), sum(s.positive_feedback),
    sum(s.negative_feedback), coalesce(min(t.buckets), '{}'), coalesce(min(t.counts), '{}'), 0
  from slots s left join tokens t on t.model = s.model group by s.model;
  insert into analytics_day_figures
  select due_day, '', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '{}', '{}', s.sessions
  from (select sum(x.sessions) as sessions from analytics_slot_sessions x where x.slot >= due_day and x.slot < until_at) s
  where s.sessions > 0
  on conflict (day, model) do update set sessions = excluded.sessions;

  delete from analytics_day_actives x where x.day = due_day;
  insert into analytics_day_actives
  select due_day, x.kind, x.n / 8192, bit_or(set_bit(no_bits, x.n % 8192, 1))
  from (
    select 'user' as kind, unnest(s.users) as n from analytics_slot_actives s where s.slot >= due_day and s.slot < until_at
    union
    select 'conversation', unnest(s.conversations) from analytics_slot_actives s
    where s.slot >= due_day and s.slot < until_at
  ) x
  group by x.kind, x.n / 8192;

  perform count_analytics_arrivals(due_day);

  delete from analytics_day_users x where x.day = due_day;
  insert into analytics_day_users (day, n, messages, generations, failed_generations, input_tokens, output_tokens, cost)
  select due_day, u.n, sum(u.messages), sum(u.generations), sum(u.failed_generations), sum_exactly(u.input_tokens),
    sum_exactly(u.output_tokens), sum_exactly(u.cost)
  from analytics_slot_users s
  cross join lateral unnest(s.users, s.messages, s.generations, s.failed_generations, s.input_tokens, s.output_tokens, s.cost)
    as u (n, messages, generations, failed_generations, input_tokens, output_tokens, cost)
  where s.slot >= due_day and s.slot < until_at group by u.n order by u.n;

  update analytics_days d set is_rolled_up = true where d.day = due_day;
  return true;
end
$$;

-- Fills analytics_slot_arrivals for a day: for each of its slots and each k up to 100, how many users and conversations
-- are active in the slot and not in the k - 1 slots before it. Reads the slots of the day and of the previous 25 hours,
-- because the longest day in any time zone has 25 hours.
create or replace function count_analytics_arrivals(p_day timestamptz) returns void
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
set work_mem = '32MB'
as $$
declare
  slots_max constant integer := 100;
begin
  delete from analytics_slot_arrivals x where x.slot >= p_day and x.slot < p_day + interval '1 day';
  insert into analytics_slot_arrivals (slot, users, conversations)
  with actives as materialized (
    select a.slot, (extract(epoch from a.slot - p_day) / 900)::integer as slot_index, a.users, a.conversations
    from analytics_slot_actives a where a.slot >= p_day - interval '25 hours' and a.slot < p_day + interval '1 day'
  ),
  absences as (
    select x.is_user, x.slot_index,
      -- The number of slots since the user or conversation was last active.
      least(slots_max, x.slot_index - lag(x.slot_index, 1, x.slot_index - slots_max)
        over (partition by x.is_user, x.n order by x.slot_index)) as absent_slots
    from (
      select true as is_user, a.slot_index, unnest(a.users) as n from actives a
      union all
      select false, a.slot_index, unnest(a.conversations) from actives a
    ) x
  ),
  counts as (
    select x.is_user, x.slot_index, x.absent_slots, count(*) as count
    from absences x where x.slot_index >= 0 group by 1, 2, 3
  ),
  sums as (
    select a.slot, u.is_user, k.k, sum(c.count) over (partition by a.slot, u.is_user order by k.k desc) as sum
    from actives a
    cross join (values (true), (false)) as u (is_user)
    cross join generate_series(1, slots_max) as k (k)
    left join counts c on c.slot_index = a.slot_index and c.is_user = u.is_user and c.absent_slots = k.k
    where a.slot_index >= 0
  )
  select x.slot, array_agg(coalesce(x.sum, 0)::integer order by x.k) filter (where x.is_user),
    array_agg(coalesce(x.sum, 0)::integer order by x.k) filter (where not x.is_user)
  from sums x group by x.slot;
end
$$;
