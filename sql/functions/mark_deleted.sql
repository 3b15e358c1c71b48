-- Deletes conversations that the caller has locked: marks them as deleted, and deletes their members and their answers
-- in progress, so that they can no longer be found. erase_deleted deletes their other rows later, in batches. The
-- caller appends `conversation.deleted`.
create or replace function mark_deleted(p_conversations uuid[], p_at timestamptz) returns void
language plpgsql
-- A plan made while the tables were nearly empty may scan all finished generations of a conversation.
set plan_cache_mode = force_custom_plan
as $$
begin
  -- Locked in id order, as when pieces are stored and leases renewed, to avoid deadlocks.
  perform 1 from generations g
  where g.conversation_id = any (p_conversations) and g.status <> 'finished'
  order by g.id for update;
  delete from generations g where g.conversation_id = any (p_conversations) and g.status <> 'finished';
  if exists (select from webhooks w where w.disabled_at is null) then
    insert into webhook_farewells (conversation_id, webhook_id)
    select m.conversation_id, w.id
    from members m join webhooks w on w.user_id = m.user_id and w.disabled_at is null
    where m.conversation_id = any (p_conversations)
    on conflict do nothing;
  end if;
  delete from members m where m.conversation_id = any (p_conversations);
  update conversations c set deleted_at = p_at, title = '', metadata = '{}', prompt_id = null
  where c.id = any (p_conversations);
  insert into analytics_deleted_conversations (conversation_id) select unnest(p_conversations) on conflict do nothing;
end
$$;
