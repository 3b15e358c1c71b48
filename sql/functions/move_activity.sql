-- Moves conversations to the top of their members' lists: immediately if they have few members, otherwise in a job
-- (src/modules/conversations/activity.ts), so that no send waits for thousands of rows. The caller must have locked the
-- conversations.
create or replace function move_activity(p_conversations uuid[], p_at timestamptz) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  -- Conversations with up to this many members, and up to this many rows in total, are updated immediately.
  members_max constant integer := 50;
  rows_max constant integer := 2000;
  small_ids uuid[];
  large_ids uuid[];
begin
  with counted as materialized (
    select i.id, (
      select count(*) from (
        select 1 from member_activity a where a.conversation_id = i.id limit members_max + 1) some_members
    ) as members
    from unnest(p_conversations) i (id)
  ),
  summed as (
    select c.id, c.members <= members_max and sum(c.members) over (order by c.members, c.id) <= rows_max as is_small
    from counted c
  )
  select array_agg(s.id) filter (where s.is_small), array_agg(s.id order by s.id) filter (where not s.is_small)
  into small_ids, large_ids from summed s;
  update member_activity a set active_at = p_at where a.conversation_id = any (small_ids);
  if large_ids is not null then
    insert into activity_moves (conversation_id, at) select i.id, p_at from unnest(large_ids) i (id)
    on conflict (conversation_id) do update set at = excluded.at;
  end if;
end
$$;
