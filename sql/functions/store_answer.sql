-- Stores a completed answer with its `message.created`, in one statement. If a message with this id exists (the response to
-- its commit was lost), writes nothing. Returns the message; no row: the conversation is gone. Waits for the conversation
-- for p_lock_timeout_ms at most.
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
  -- Lock before the lookup: an earlier transaction that may have stored it is then committed or gone.
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
