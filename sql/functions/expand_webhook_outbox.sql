-- Creates the deliveries for the oldest p_rows rows of the outbox, one for each webhook that receives the event, and
-- deletes these rows. Returns the numbers of rows (taken) and deliveries (made), or nulls if another instance is running
-- this function. Only one instance can run it at a time, so that deliveries are created in the order of a conversation's
-- events.
--
-- An administrator's webhook receives all events. Other webhooks receive events of conversations that their user
-- belongs to, and events about the user. Access is checked again before each attempt (src/modules/webhooks/delivery).
--
-- A conversation's members are looked up once for all its events, and only their webhooks are read. Each lookup is a
-- subquery with an offset, because Postgres plans such a subquery separately. A join might use a plan that was made while
-- a table was nearly empty.
create or replace function expand_webhook_outbox(p_rows integer, out taken integer, out made integer)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = on
set enable_mergejoin = on
as $$
declare
  now_at timestamptz;
begin
  -- An arbitrary number that no other lock in Parley uses.
  if not pg_try_advisory_xact_lock(5206070014) then
    return;
  end if;
  now_at := clock_timestamp();
  with outbox_rows as (
    delete from webhook_outbox o where o.id = any (array(select x.id from webhook_outbox x order by x.id limit p_rows))
    returning o.*
  ),
  outbox_events as materialized (
    select r.id, e.*, r.at
    from outbox_rows r
    cross join lateral unnest(r.conversations, r.seqs, r.types, r.messages, r.users, r.data)
      with ordinality as e (conversation, seq, type, message, about, data, n)
  ),
  administrators as materialized (
    select w.id, w.events
    from webhooks w
    cross join lateral (select x.role, x.disabled_at from users x where x.id = w.user_id offset 0) u
    where w.disabled_at is null and u.role = 'admin' and u.disabled_at is null
  ),
  -- Users whose webhooks may receive the events: members of the conversations, and users to whom an event refers.
  candidates as materialized (
    select p.conversation, null::uuid as about, m.user_id
    from (select distinct t.conversation from outbox_events t where t.about is null and t.conversation is not null) p
    cross join lateral (select x.user_id from members x where x.conversation_id = p.conversation offset 0) m
    union all
    select distinct null::uuid, t.about, t.about from outbox_events t where t.about is not null
  ),
  endpoints as materialized (
    select l.conversation, l.about, w.id, w.events
    from candidates l
    cross join lateral (
      select x.id, x.events, x.disabled_at from webhooks x where x.user_id = l.user_id offset 0
    ) w
    cross join lateral (select x.role, x.disabled_at from users x where x.id = l.user_id offset 0) u
    where w.disabled_at is null and u.role <> 'admin' and u.disabled_at is null
    union
    select p.conversation, null, w.id, w.events
    from (select distinct t.conversation from outbox_events t where t.about is null and t.conversation is not null) p
    cross join lateral (select x.webhook_id from webhook_farewells x where x.conversation_id = p.conversation offset 0) f
    cross join lateral (select x.id, x.events, x.user_id, x.disabled_at from webhooks x where x.id = f.webhook_id offset 0) w
    cross join lateral (select x.role, x.disabled_at from users x where x.id = w.user_id offset 0) u
    where w.disabled_at is null and u.role <> 'admin' and u.disabled_at is null
  ),
  recipients as (
    select t.*, a.id as webhook_id
    from outbox_events t join administrators a on a.events @> array[t.type] or a.events = '{*}'
    union all
    select t.*, e.id
    from outbox_events t join endpoints e on e.conversation = t.conversation
    where t.about is null and (e.events @> array[t.type] or e.events = '{*}')
    union all
    select t.*, e.id
    from outbox_events t join endpoints e on e.about = t.about
    where e.events @> array[t.type] or e.events = '{*}'
  ),
  inserted as (
    insert into webhook_deliveries (id, webhook_id, type, conversation_id, seq, message_id, user_id, data, occurred_at,
      next_attempt_at, created_at)
    select create_uuid7(now_at), t.webhook_id, t.type, t.conversation, t.seq, t.message, t.about, t.data, t.at, now_at, now_at
    from recipients t
    order by t.id, t.n, t.webhook_id
    returning 1
  )
  select (select count(*) from outbox_rows), (select count(*) from inserted) into taken, made;
end
$$;

-- Creates a UUIDv7 (RFC 9562), like uuidv7() in Postgres 18 and newer.
create or replace function create_uuid7(p_at timestamptz) returns uuid
language sql volatile parallel safe as $$
  select encode(
    set_bit(set_bit(
      overlay(uuid_send(gen_random_uuid()) placing substring(int8send((extract(epoch from p_at) * 1000)::bigint) from 3) from 1 for 6),
      52, 1), 53, 1), 'hex')::uuid
$$;
