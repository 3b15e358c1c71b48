-- Stores a completed answer and its `message.created` event. If a message with this id already exists (because the
-- response to its commit was lost), writes nothing. Returns the message, or no row if the conversation no longer
-- exists. Waits at most p_lock_timeout_ms for the conversation.
create or replace function store_answer(
  p_conversation uuid, p_id uuid, p_content text, p_status text, p_parent uuid, p_metadata jsonb, p_model text,
  p_reason text, p_input_tokens integer, p_output_tokens integer, p_cached_input_tokens integer,
  p_reasoning_tokens integer, p_cost_usd numeric, p_error_code text, p_error_detail text, p_lock_timeout_ms integer,
  p_first_token_ms integer, p_reasoning text, p_output json
)
returns setof current_messages
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
declare
  new_seq bigint;
  stored_at timestamptz;
begin
  perform set_config('lock_timeout', p_lock_timeout_ms || 'ms', true);
  -- Locks before the lookup, so that any earlier transaction that may have stored the answer has ended by then.
  perform 1 from conversations c where c.id = p_conversation for no key update;
  if not exists (select 1 from messages m where m.id = p_id and m.conversation_id = p_conversation) then
    select t.first_seqs[1], t.taken_at into new_seq, stored_at
    from take_positions(array[p_conversation], array[1], array[1]) t;
    if new_seq is null then
      return;
    end if;
    insert into messages (id, conversation_id, seq, role, content, status, parent_id, metadata, model, finish_reason,
      input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost_usd, error_code, error_detail, created_at,
      updated_at, first_token_ms, reasoning, output)
    values (p_id, p_conversation, new_seq, 'assistant', p_content, p_status, p_parent, p_metadata, p_model, p_reason,
      p_input_tokens, p_output_tokens, p_cached_input_tokens, p_reasoning_tokens, p_cost_usd, p_error_code,
      p_error_detail, stored_at, stored_at, p_first_token_ms, p_reasoning, p_output);
    perform append_events(array[p_conversation], array[new_seq], array['message.created'], array[p_id], null, stored_at);
  end if;
  return query select x.* from current_messages x where x.id = p_id and x.conversation_id = p_conversation;
end
$$;
