-- Stores events with sequence numbers that take_positions allocated in the same transaction. Only this function writes
-- to `events`. It is also called for `message.created`, which gets no row because the message's row is that event.
--
-- All arrays have the same length; p_messages and p_data may be null, or contain nulls.
create or replace function append_events(
  p_conversations uuid[], p_seqs bigint[], p_types text[], p_messages uuid[], p_data jsonb[], p_at timestamptz
)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
begin
  -- In a transaction of an older instance (older_instances.sql).
  if current_setting('parley.has_uncounted', true) = 'on' then
    perform count_uncounted(p_conversations, p_types);
  end if;
  if 'message.created' <> any (p_types) then
    insert into events (conversation_id, seq, type, message_id, data, at)
    select e.conversation_id, e.seq, e.type, e.message_id, e.data, p_at
    from unnest(p_conversations, p_seqs, p_types, p_messages, p_data) as e (conversation_id, seq, type, message_id, data)
    where e.type <> 'message.created';
  end if;
  perform on_events_appended(p_conversations, p_seqs, p_types, p_messages, p_data, p_at);
end
$$;
