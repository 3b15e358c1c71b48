-- Counts stale slots (analytics_marks.sql) and new slots, oldest first. Counts about p_rows messages of each kind at
-- most. The lock on the state row allows one call at a time. Returns whether there is more to count.
create or replace function refresh_analytics(p_rows integer) returns boolean
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
as $$
declare
  state analytics_state;
  began_at timestamptz;
  current_slot_end timestamptz;
  -- This call counts the slots from `frontier` to this time, in addition to stale slots.
  until_at timestamptz;
  stale_slots timestamptz[];
  has_more boolean;
  counted_messages bigint;
  -- The number of counted messages in slots that the next call counts again.
  unsettled_messages bigint;
begin
  select * into state from analytics_state for update;
  began_at := clock_timestamp();
  current_slot_end := analytics_slot(began_at) + interval '15 minutes';
  if state.frontier is null then
    state.frontier := analytics_slot(least((select min(m.created_at) from messages m),
      (select min(s.created_at) from sessions s), began_at));
  end if;

  perform mark_deleted_conversation(d.conversation_id) from analytics_deleted_conversations d;
  -- Stale slots after the frontier are counted when the frontier reaches them.
  delete from analytics_stale_slots s where s.slot >= state.frontier;
  select array_agg(x.slot) into stale_slots from (
    select s.slot, sum(s.size) over (order by s.slot) - s.size as before from (
      -- 50 stands for the fixed cost of a slot.
      select d.slot, 50 + coalesce((
        select sum(f.messages) from analytics_slot_figures f where f.slot = d.slot), 0) as size
      from (select distinct q.slot from analytics_stale_slots q) d
    ) s
  ) x where x.before < p_rows;
  delete from analytics_stale_slots s where s.slot = any (stale_slots);

  select analytics_slot(m.created_at) into until_at from messages m
  where m.created_at >= state.frontier order by m.created_at offset p_rows limit 1;
  until_at := case when until_at is null then current_slot_end
    else least(current_slot_end, greatest(until_at, state.frontier + interval '15 minutes')) end;

  -- Usually there is nothing new.
  if stale_slots is not null
    or exists (select from messages m where m.created_at >= state.frontier and m.created_at < until_at)
    or exists (select from analytics_slot_figures f where f.slot >= state.frontier and f.slot < until_at)
  then
    perform count_analytics_slots(stale_slots, state.frontier, until_at);
  end if;
  perform count_analytics_sessions(state.frontier, until_at);

  select coalesce(sum(f.messages), 0) into counted_messages from analytics_slot_figures f
  where f.slot = any (stale_slots) or (f.slot >= state.frontier and f.slot < until_at);
  -- Slots of the last 10 minutes are counted again, because changes to messages of the last 5 minutes don't mark them.
  state.frontier := greatest(state.frontier, least(until_at, analytics_slot(began_at - interval '10 minutes')));
  select coalesce(sum(f.messages), 0) into unsettled_messages from analytics_slot_figures f
  where f.slot >= state.frontier and f.slot < until_at;
  has_more := until_at < current_slot_end or exists (select from analytics_stale_slots);
  state.counted_until := case when until_at < current_slot_end then until_at else began_at end;
  update analytics_state set frontier = state.frontier, counted_until = state.counted_until,
    as_of = least(state.counted_until, (select min(s.slot) from analytics_stale_slots s)), refreshed_at = clock_timestamp(),
    took_ms = (extract(epoch from clock_timestamp() - began_at) * 1000
      * unsettled_messages / greatest(1, counted_messages))::integer;
  return has_more;
end
$$;

-- Recounts the slots in p_stale, and those from p_from to p_to.
create or replace function count_analytics_slots(p_stale timestamptz[], p_from timestamptz, p_to timestamptz) returns void
language plpgsql
set plan_cache_mode = force_custom_plan
set jit = off
set enable_seqscan = off
as $$
begin
  delete from analytics_slot_figures x where x.slot = any (p_stale) or (x.slot >= p_from and x.slot < p_to);
  delete from analytics_slot_actives x where x.slot = any (p_stale) or (x.slot >= p_from and x.slot < p_to);
  delete from analytics_slot_users x where x.slot = any (p_stale) or (x.slot >= p_from and x.slot < p_to);

  -- A single statement, so that everything uses the same snapshot.
  with facts as materialized (
    select * from list_analytics_facts(p_stale || p_from, (
      select array_agg(s.slot + interval '15 minutes' order by s.n) from unnest(p_stale) with ordinality as s (slot, n)
    ) || p_to)
  ),
  -- `offset 0` makes Postgres look up one id at a time. With a join, each call might read the numbers of all users.
  active_users as materialized (
    select o.owner_id, u.n from (select distinct f.owner_id from facts f where f.owner_id is not null) o
    left join lateral (select x.n from analytics_users x where x.user_id = o.owner_id offset 0) u on true
  ),
  new_users as (
    insert into analytics_users (user_id) select o.owner_id from active_users o where o.n is null returning user_id, n
  ),
  numbered_users as materialized (
    select u.user_id, u.n from new_users u
    union all
    select o.owner_id, o.n from active_users o where o.n is not null
  ),
  -- No rows are added for a user who is being deleted.
  existing_users as materialized (
    select u.user_id, u.n from numbered_users u
    cross join lateral (select from users x where x.id = u.user_id and x.deleting_at is null offset 0) a
  ),
  active_conversations as materialized (
    select p.conversation_id, c.n from (select distinct f.conversation_id from facts f) p
    left join lateral (select x.n from analytics_conversations x where x.conversation_id = p.conversation_id offset 0) c on true
  ),
  new_conversations as (
    insert into analytics_conversations (conversation_id)
    select p.conversation_id from active_conversations p where p.n is null
    returning conversation_id, n
  ),
  conversations as materialized (
    select c.conversation_id, c.n from new_conversations c
    union all
    select p.conversation_id, p.n from active_conversations p where p.n is not null
  ),
  figures as (
    insert into analytics_slot_figures
    select f.slot, f.model, count(*), sum(f.system_messages), sum(f.user_messages), sum(f.assistant_messages),
      sum(f.tool_messages), sum(f.generations), sum(f.failed_generations), sum(f.input_tokens), sum(f.output_tokens),
      sum(f.cached_input_tokens), sum(f.reasoning_tokens), sum(f.cost_usd), sum(f.positive_feedback),
      sum(f.negative_feedback), coalesce(min(t.buckets), '{}'), coalesce(min(t.counts), '{}')
    from facts f
    left join (
      select b.slot, b.model, array_agg(b.bucket order by b.bucket) as buckets, array_agg(b.count order by b.bucket) as counts
      from (
        select x.slot, x.model, x.first_token_bucket as bucket, count(*) from facts x
        where x.first_token_bucket is not null group by 1, 2, 3
      ) b group by 1, 2
    ) t on t.slot = f.slot and t.model = f.model
    group by f.slot, f.model
  ),
  actives as (
    insert into analytics_slot_actives (slot, users, conversations)
    select f.slot, coalesce(array_agg(distinct u.n) filter (where u.n is not null), '{}'), array_agg(distinct c.n)
    from facts f
    join conversations c on c.conversation_id = f.conversation_id
    left join numbered_users u on u.user_id = f.owner_id and not f.is_answer
    group by f.slot
  )
  insert into analytics_slot_users
  select x.slot, array_agg(x.n), array_agg(x.messages), array_agg(x.generations), array_agg(x.failed_generations),
    array_agg(x.input_tokens), array_agg(x.output_tokens), array_agg(x.cost)
  from (
    select f.slot, a.n, (count(*) filter (where not f.is_answer))::integer as messages,
      sum(f.generations)::integer as generations, sum(f.failed_generations)::integer as failed_generations,
      sum(f.input_tokens)::bigint as input_tokens, sum(f.output_tokens)::bigint as output_tokens,
      (sum(f.cost_usd) * 100000000)::bigint as cost
    from facts f join existing_users a on a.user_id = f.owner_id
    group by f.slot, a.n
  ) x
  group by x.slot;

  insert into analytics_days (day, is_rolled_up)
  select distinct date_trunc('day', x.slot, 'UTC'), false
  from (
    select unnest(p_stale) as slot
    union all select f.slot from analytics_slot_figures f where f.slot >= p_from and f.slot < p_to
  ) x
  on conflict (day) do update set is_rolled_up = false where analytics_days.is_rolled_up;
  -- analytics_slot_arrivals of the 25 hours after a slot depend on that slot.
  update analytics_days d set is_rolled_up = false
  where d.is_rolled_up and d.day = any (array(
    select date_trunc('day', x.slot, 'UTC') + interval '1 day' from unnest(p_stale || p_from || p_to) as x (slot)
    union
    select date_trunc('day', x.slot + interval '25 hours', 'UTC') from unnest(p_stale || p_from || p_to) as x (slot)
  ));
end
$$;

-- Counts the logins from p_from to p_to.
create or replace function count_analytics_sessions(p_from timestamptz, p_to timestamptz) returns void
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
begin
  insert into analytics_slot_sessions (slot, sessions)
  select analytics_slot(s.created_at), count(*) from sessions s
  where s.id >= first_id_at(p_from - interval '1 hour') and s.id < first_id_at(p_to + interval '1 hour')
    and s.created_at >= p_from and s.created_at < p_to
  group by 1
  on conflict (slot) do update set sessions = greatest(analytics_slot_sessions.sessions, excluded.sessions);
  insert into analytics_days (day, is_rolled_up)
  select distinct date_trunc('day', s.slot, 'UTC'), false from analytics_slot_sessions s
  where s.slot >= p_from and s.slot < p_to
  on conflict (day) do update set is_rolled_up = false where analytics_days.is_rolled_up;
end
$$;

-- Returns the smallest UUIDv7 for a time. Session ids increase with time, except for clock differences between
-- instances.
create or replace function first_id_at(p_at timestamptz) returns uuid
language sql immutable parallel safe
as $$
  select (lpad(to_hex(greatest(0, floor(extract(epoch from p_at) * 1000))::bigint), 12, '0') || '70008000000000000000')::uuid
$$;
