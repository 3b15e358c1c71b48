-- Administration of users, their deletion (docs/decisions/0040), and reading the audit record.

-- Who is being deleted is disabled and has no name any more; what they leave behind is taken away in steps, and this is
-- when the last step was taken. Whoever finds it older than a moment goes on with it.
alter table users
  add column deleting_at timestamptz,
  add constraint users_deleting check (deleting_at is null or disabled_at is not null);
create index users_deleting on users (deleting_at) where deleting_at is not null;
create index users_disabled on users (disabled_at) where disabled_at is not null;
create index users_administrators on users (id) where role = 'admin';

-- A search in addresses and names for any part of them. The pieces of three characters are what pg_trgm would index, which
-- not every server has.
create function text_pieces(p_text text) returns text[]
language sql immutable parallel safe as $$
  select coalesce(array_agg(distinct substr(p_text, n, 3)), '{}') from generate_series(1, length(p_text) - 2) n
$$;
create index users_search on users using gin (text_pieces(lower(email_key || ' ' || display_name)));

-- What a user has is found by the user, for the export and the deletion.
create index feedback_user on feedback (user_id, message_id);
create index events_member on events ((data ->> 'user_id')) where type in ('member.added', 'member.removed');

create index audit_events_action on audit_events (action, id);

-- As in sql/0009, but that the address a request came from can be taken out, and nothing else.
create or replace function refuse_audit_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('parley.audit_retention', true) = 'on' then
    return old;
  end if;
  if tg_op = 'UPDATE' and current_setting('parley.audit_erasure', true) = 'on' and new.ip_address is null
    and to_jsonb(new) - 'ip_address' = to_jsonb(old) - 'ip_address' then
    return new;
  end if;
  raise exception 'audit events are append-only';
end $$;

-- A user who is being deleted leaves some conversations: of those without an owner then, who has been there longest
-- becomes one (somebody who can log in before somebody who cannot, a member before a viewer). Conversations of the user
-- alone stay as they are; `erase_conversation` takes them. Returns the events in their order.
create function leave_conversations(p_user uuid, p_name text, p_conversations uuid[])
returns table (conversation_id uuid, seq bigint, type text, data jsonb, at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
begin
  -- Always in id order, as every batch of sends takes them.
  perform 1 from conversations c where c.id = any (p_conversations) order by c.id for update;
  -- What the user asked models for is not wanted any more.
  perform 1 from generations g
  where g.conversation_id = any (p_conversations) and g.requested_by = p_user and g.status <> 'finished'
  order by g.id for update;

  -- A statement of its own: only its snapshot shows what was committed while the locks were waited for.
  return query
  with shared as (
    select m.conversation_id, m.role,
      exists (select 1 from members o
              where o.conversation_id = m.conversation_id and o.user_id <> p_user and o.role = 'owner') as has_owner
    from members m
    where m.user_id = p_user and m.conversation_id = any (p_conversations)
      and exists (select 1 from members o where o.conversation_id = m.conversation_id and o.user_id <> p_user)
  ),
  stopped as (
    update generations g set cancel_requested_at = coalesce(g.cancel_requested_at, now())
    from shared s where g.conversation_id = s.conversation_id and g.requested_by = p_user and g.status <> 'finished'
  ),
  successors as (
    select s.conversation_id, heir.*
    from shared s cross join lateral (
      select o.user_id, u.display_name, o.last_read_seq, o.joined_at
      from members o join users u on u.id = o.user_id
      where o.conversation_id = s.conversation_id and o.user_id <> p_user
      order by u.disabled_at is not null, o.role = 'viewer', o.joined_at, o.user_id limit 1
    ) heir
    where not s.has_owner
  ),
  raised as (
    update members m set role = 'owner' from successors h
    where m.conversation_id = h.conversation_id and m.user_id = h.user_id
  ),
  gone as (
    delete from members m using shared s where m.conversation_id = s.conversation_id and m.user_id = p_user
  ),
  counted as (
    update conversations c set last_seq = c.last_seq + 1 + (not s.has_owner)::int, updated_at = now()
    from shared s where c.id = s.conversation_id
    returning c.id, c.last_seq, s.role
  ),
  logged as (
    insert into events (conversation_id, seq, type, data, at)
    select c.id, c.last_seq - 1, 'member.added',
      jsonb_build_object('user_id', h.user_id, 'display_name', h.display_name, 'role', 'owner',
        'last_read_seq', h.last_read_seq,
        'joined_at', to_char(h.joined_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
      now()
    from counted c join successors h on h.conversation_id = c.id
    union all
    select c.id, c.last_seq, 'member.removed',
      jsonb_build_object('user_id', p_user, 'display_name', p_name, 'role', c.role), now()
    from counted c
    returning *
  )
  select l.conversation_id, l.seq, l.type, l.data, l.at from logged l order by 1, 2;
end
$$;

-- Takes away up to p_rows messages of a conversation that has nobody but the user, and at last the conversation itself.
-- `is_erased`: it is gone, and this is the number of its last event. `is_shared`: somebody else is in it, and nothing was
-- done.
create function erase_conversation(p_user uuid, p_conversation uuid, p_rows integer)
returns table (is_shared boolean, is_erased boolean, seq bigint, at timestamptz)
language plpgsql
as $$
declare
  erased integer;
  last bigint;
begin
  select c.last_seq + 1 into last from conversations c where c.id = p_conversation for update;
  if exists (select 1 from members m where m.conversation_id = p_conversation and m.user_id <> p_user) then
    return query select true, false, null::bigint, null::timestamptz;
    return;
  end if;
  -- Answers that are being written first, and their messages after them: the order in which checkpoints lock both.
  delete from generations g where g.conversation_id = p_conversation and g.status <> 'finished';
  delete from messages x where x.id in (
    select m.id from messages m where m.conversation_id = p_conversation order by m.seq limit p_rows);
  get diagnostics erased = row_count;
  if erased < p_rows then
    delete from conversations c where c.id = p_conversation;
  end if;
  return query select false, erased < p_rows, last, now();
end
$$;
