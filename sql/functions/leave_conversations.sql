-- Removes a user from conversations, because the user is being deleted (docs/decisions/0040). If a conversation has no
-- other owner, another member becomes the owner. Users who can log in are preferred to disabled users, then members to
-- viewers, and then the longest-standing member is chosen. If there is no other member, the conversation is deleted.
-- Returns the events in order.
--
-- Without p_wait, locked conversations are skipped. With p_wait, the function waits for them. In that case, pass only one
-- conversation, so that no others stay locked during the wait.
create or replace function leave_conversations(p_user uuid, p_name text, p_conversations uuid[], p_wait boolean)
returns table (conversation_id uuid, seq bigint, type text, data jsonb, at timestamptz)
language plpgsql
as $$
#variable_conflict use_column
declare
  locked_ids uuid[];
  -- Arrays of the same length, in id order: the conversations to leave, the user's role in each, and the new owner if one
  -- is needed.
  left_ids uuid[];
  roles text[];
  new_owners uuid[];
  -- Those of left_ids that will be deleted, because they have no other member.
  deleted_ids uuid[];
  first_seqs bigint[];
  left_at timestamptz;
  event_conversations uuid[];
  event_seqs bigint[];
  event_types text[];
  event_data jsonb[];
begin
  -- Always in id order, to avoid deadlocks.
  if p_wait then
    perform 1 from conversations c where c.id = any (p_conversations) order by c.id for no key update;
    locked_ids := p_conversations;
  else
    select array_agg(l.id) into locked_ids from (
      select c.id from conversations c where c.id = any (p_conversations) order by c.id for no key update skip locked
    ) l;
  end if;

  -- A separate statement, because its snapshot includes what was committed during the wait for locks.
  select array_agg(m.conversation_id order by m.conversation_id), array_agg(m.role order by m.conversation_id),
    array_agg(h.user_id order by m.conversation_id),
    coalesce(array_agg(m.conversation_id) filter (where not exists (
      select 1 from members o where o.conversation_id = m.conversation_id and o.user_id <> p_user)), '{}')
  into left_ids, roles, new_owners, deleted_ids
  from members m
  left join lateral (
    select o.user_id from members o join users u on u.id = o.user_id
    where o.conversation_id = m.conversation_id and o.user_id <> p_user
      and not exists (select 1 from members w
                      where w.conversation_id = m.conversation_id and w.user_id <> p_user and w.role = 'owner')
    order by u.disabled_at is not null, o.role = 'viewer', o.joined_at, o.user_id limit 1
  ) h on true
  where m.user_id = p_user and m.conversation_id = any (locked_ids);
  if left_ids is null then
    return;
  end if;

  -- Answers that the user requested are cancelled below, or deleted with the conversation.
  perform 1 from generations g
  where g.conversation_id = any (left_ids) and g.requested_by = p_user and g.status <> 'finished'
  order by g.id for update;
  select t.first_seqs, t.taken_at into first_seqs, left_at
  from take_positions(left_ids, (
    select array_agg(1 + (s.new_owner is not null)::int order by s.n)
    from unnest(new_owners) with ordinality as s (new_owner, n)
  ), array_fill(0, array[cardinality(left_ids)])) t;

  perform mark_deleted(deleted_ids, left_at);
  update generations g set cancel_requested_at = coalesce(g.cancel_requested_at, left_at)
  where g.conversation_id = any (left_ids) and g.requested_by = p_user and g.status <> 'finished';
  update members m set role = 'owner'
  from unnest(left_ids, new_owners) as s (conversation_id, new_owner)
  where m.conversation_id = s.conversation_id and m.user_id = s.new_owner;
  delete from members m where m.conversation_id = any (left_ids) and m.user_id = p_user;

  select array_agg(e.conversation_id order by e.conversation_id, e.seq), array_agg(e.seq order by e.conversation_id, e.seq),
    array_agg(e.type order by e.conversation_id, e.seq), array_agg(e.data order by e.conversation_id, e.seq)
  into event_conversations, event_seqs, event_types, event_data
  from (
    select s.conversation_id, s.first_seq as seq, 'member.added' as type,
      jsonb_build_object('user_id', m.user_id, 'display_name', u.display_name, 'role', m.role,
        'last_read_seq', m.last_read_seq,
        'joined_at', to_char(m.joined_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) as data
    from unnest(left_ids, first_seqs, new_owners) as s (conversation_id, first_seq, new_owner)
    join members m on m.conversation_id = s.conversation_id and m.user_id = s.new_owner
    join users u on u.id = m.user_id
    union all
    select s.conversation_id, s.first_seq + (s.new_owner is not null)::int,
      case when s.is_deleted then 'conversation.deleted' else 'member.removed' end,
      case when s.is_deleted then jsonb_build_object('id', s.conversation_id)
      else jsonb_build_object('user_id', p_user, 'display_name', p_name, 'role', s.role) end
    from (select *, conversation_id = any (deleted_ids) as is_deleted
          from unnest(left_ids, first_seqs, new_owners, roles) as s (conversation_id, first_seq, new_owner, role)) s
  ) e;
  perform append_events(event_conversations, event_seqs, event_types, null, event_data, left_at);
  return query
  select e.conversation_id, e.seq, e.type, e.data, left_at
  from unnest(event_conversations, event_seqs, event_types, event_data) as e (conversation_id, seq, type, data);
end
$$;
