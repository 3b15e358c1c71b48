-- If a change affects slots that are already counted, the transaction of the change marks these slots as stale
-- (docs/decisions/0073). Changes to messages of the last 5 minutes need no mark, because slots are recounted until 10
-- minutes after their end.

-- Returns the start of the slot of a time. Slots are 15 minutes, aligned to UTC.
create or replace function analytics_slot(p_at timestamptz) returns timestamptz
language sql immutable parallel safe
as $$select date_bin('15 minutes', p_at, '0001-01-01 00:00:00+00')$$;

-- Marks the slots that contain these times, which are the `created_at` of messages that were added, changed or removed.
-- Duplicates are allowed.
create or replace function mark_analytics_slots(p_times timestamptz[]) returns void
language sql
as $$
  insert into analytics_stale_slots (slot)
  select distinct analytics_slot(t.at) from unnest(p_times) as t (at) where t.at is not null
$$;

-- Like mark_analytics_slots, for changed messages. Skips messages that are too new to need a mark.
create or replace function mark_changed_messages(p_conversations uuid[], p_messages uuid[]) returns void
language sql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  insert into analytics_stale_slots (slot)
  select distinct analytics_slot(x.created_at)
  from unnest(p_conversations, p_messages) as e (conversation_id, message_id)
  cross join lateral (
    select m.created_at from messages m where m.conversation_id = e.conversation_id and m.id = e.message_id limit 1
  ) x
  where x.created_at < clock_timestamp() - interval '5 minutes'
$$;

-- Marks the slots of a deleted conversation, unless already done. erase_deleted also marks the slots of messages that
-- it erases.
create or replace function mark_deleted_conversation(p_conversation uuid) returns void
language plpgsql
set enable_seqscan = off
as $$
begin
  delete from analytics_deleted_conversations d where d.conversation_id = p_conversation;
  if found then
    insert into analytics_stale_slots (slot)
    select distinct analytics_slot(m.created_at) from messages m where m.conversation_id = p_conversation;
  end if;
end
$$;

-- Ratings count at the time of the rated answer.
create or replace function mark_rated_slots() returns trigger
language plpgsql
as $$
begin
  perform mark_changed_messages(array_agg(c.conversation_id), array_agg(c.message_id)) from changed c;
  return null;
end
$$;
create or replace trigger feedback_given after insert on feedback
  referencing new table as changed for each statement execute function mark_rated_slots();
create or replace trigger feedback_changed after update on feedback
  referencing new table as changed for each statement execute function mark_rated_slots();
create or replace trigger feedback_removed after delete on feedback
  referencing old table as changed for each statement execute function mark_rated_slots();

-- Removes a user who is being deleted from the figures by user, p_days days at a time. Returns whether there may be more
-- days. First waits for a counting step in progress to finish, because it may have started before the user was marked as
-- being deleted.
create or replace function forget_analytics_user(p_user uuid, p_days integer) returns boolean
language plpgsql
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
as $$
declare
  user_number integer := (select u.n from analytics_users u where u.user_id = p_user);
  days timestamptz[];
begin
  if user_number is null then
    return false;
  end if;
  perform 1 from analytics_state for update;
  days := array(select d.day from analytics_day_users d where d.n = user_number order by d.day limit p_days);
  update analytics_slot_users s
  set (users, messages, generations, failed_generations, input_tokens, output_tokens, cost) = (
    select coalesce(array_agg(u.n), '{}'), coalesce(array_agg(u.messages), '{}'), coalesce(array_agg(u.generations), '{}'),
      coalesce(array_agg(u.failed_generations), '{}'), coalesce(array_agg(u.input_tokens), '{}'),
      coalesce(array_agg(u.output_tokens), '{}'), coalesce(array_agg(u.cost), '{}')
    from unnest(s.users, s.messages, s.generations, s.failed_generations, s.input_tokens, s.output_tokens, s.cost)
      as u (n, messages, generations, failed_generations, input_tokens, output_tokens, cost)
    where u.n <> user_number
  )
  from (
    select unnest(days) as day union select d.day from analytics_days d where not d.is_rolled_up
  ) d
  where s.slot >= d.day and s.slot < d.day + interval '1 day' and user_number = any (s.users);
  delete from analytics_day_users d where d.n = user_number and d.day = any (days);
  return cardinality(days) = p_days;
end
$$;
