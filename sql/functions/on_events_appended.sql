-- The extension point of the event log: append_events calls this function with every durable event, in the event's
-- transaction, so everything that it writes is committed together with the event.
--
-- Writes webhook events if any webhook is subscribed to them; their content is read at delivery. Also queues the
-- events' messages for search indexing, and marks analytics slots as stale.
create or replace function on_events_appended(
  p_conversations uuid[], p_seqs bigint[], p_types text[], p_messages uuid[], p_data jsonb[], p_at timestamptz
)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  if p_messages is not null then
    insert into search_outbox (conversations, messages) values (p_conversations, p_messages);
  end if;
  -- Usually there are no webhooks. The first `exists` is the fastest way to find that out.
  if exists (select from webhooks w where w.disabled_at is null) and exists (
    select from webhooks w where w.disabled_at is null and w.events && (p_types || '{*}'::text[])
  ) then
    insert into webhook_outbox (conversations, seqs, types, messages, at)
    values (p_conversations, p_seqs, p_types, p_messages, p_at);
  end if;
  if 'message.deleted' = any (p_types) then
    perform mark_changed_messages(array_agg(e.conversation_id), array_agg(e.message_id))
    from unnest(p_conversations, p_types, p_messages) as e (conversation_id, type, message_id)
    where e.type = 'message.deleted';
  end if;
end
$$;
