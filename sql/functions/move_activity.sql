-- Moves conversations in the lists of their members: those of a few members at once, the others by a job
-- (src/modules/conversations/activity.ts), so that no send waits for thousands of rows. The caller has locked them.
create or replace function move_activity(p_conversations uuid[], p_at timestamptz) returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  small uuid[];
  large uuid[];
begin
  with counted as materialized (
    select i.id, (
      select count(*) from (select 1 from member_activity a where a.conversation_id = i.id limit 51) some_members
    ) as members
    from unnest(p_conversations) i (id)
  )
  select array_agg(c.id) filter (where c.members <= 50), array_agg(c.id order by c.id) filter (where c.members > 50)
  into small, large from counted c;
  update member_activity a set active_at = p_at where a.conversation_id = any (small);
  if large is not null then
    insert into activity_moves (conversation_id, at) select i.id, p_at from unnest(large) i (id)
    on conflict (conversation_id) do update set at = excluded.at;
  end if;
end
$$;
