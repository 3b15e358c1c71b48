-- Supports instances of the previous release that are still running during an upgrade (docs/decisions/0063). They don't
-- set `message_count`, `read_count`, `is_creator`, cached and reasoning tokens, or the parts of an answer other than its
-- text. In the next release, delete this file and the related code in append_events, and drop the functions and triggers
-- with a migration.

-- The old version of take_positions. It has no parameter for the number of messages, so append_events counts them later
-- in the transaction.
create or replace function take_seqs(
  p_conversations uuid[], p_counts integer[], out first_seqs bigint[], out taken_at timestamptz
)
language plpgsql as $$
begin
  perform set_config('parley.has_uncounted', 'on', true);
  select t.first_seqs, t.taken_at into first_seqs, taken_at
  from take_positions(p_conversations, p_counts, array_fill(0, array[cardinality(p_conversations)])) t;
end
$$;

-- Counts the messages of a transaction that called take_seqs and so has locked their conversations.
create or replace function count_uncounted(p_conversations uuid[], p_types text[]) returns void
language sql as $$
  update conversations c set message_count = c.message_count + x.count
  from (
    select e.conversation_id, count(*) from unnest(p_conversations, p_types) as e (conversation_id, type)
    where e.type = 'message.created' group by e.conversation_id
  ) x
  where c.id = x.conversation_id
$$;

-- An older instance moves a read position without updating read_count. This trigger function updates it, in the same way
-- as moveReadPosition.
create or replace function count_read() returns trigger
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  select c.message_count - (
    select count(*) from (
      select 1 from messages x where x.conversation_id = c.id and x.seq > new.last_read_seq limit 3000) unread_messages)
  into new.read_count from conversations c where c.id = new.conversation_id;
  return new;
end
$$;
create or replace trigger members_count_read before update of last_read_seq on members
  for each row when (new.last_read_seq > old.last_read_seq and new.read_count = old.read_count)
  execute function count_read();

-- Marks a conversation's first owner as its creator, if the owner is added in the transaction that creates the
-- conversation.
create or replace function mark_creator() returns trigger language plpgsql as $$
begin
  new.is_creator := exists (
    select 1 from conversations c where c.id = new.conversation_id and c.created_at = new.joined_at
  );
  return new;
end
$$;
create or replace trigger members_mark_creator before insert on members
  for each row when (new.role = 'owner' and not new.is_creator) execute function mark_creator();

-- The old version of end_answers, without cached and reasoning tokens, reasoning and output.
create or replace function finish_answers(
  p_conversation uuid[], p_generation uuid[], p_fence integer[], p_attempt integer[], p_content text[], p_status text[],
  p_reason text[], p_model text[], p_input_tokens integer[], p_output_tokens integer[], p_cost_usd numeric[],
  p_error_code text[], p_error_detail text[], p_metadata text[], p_wait boolean
)
returns table (
  n bigint, outcome text, event_seq bigint, at timestamptz, model text, cost_usd numeric, metadata jsonb,
  created_at timestamptz
)
language plpgsql
as $$
begin
  return query
  select * from end_answers(p_conversation, p_generation, p_fence, p_attempt, p_content, p_status, p_reason, p_model,
    p_input_tokens, p_output_tokens, p_cost_usd, p_error_code, p_error_detail, p_metadata, p_wait, null, null, null, null, null);
end
$$;

-- Older instances only delete a message's text. This also deletes its reasoning, output and options.
create or replace function forget_deleted() returns trigger language plpgsql as $$
begin
  if new.reply_options is not null then
    update generations g set reply_format = null
    where g.conversation_id = new.conversation_id and g.reply_format is not null and g.message_seq = any (array(
      select a.seq from messages a
      where a.conversation_id = new.conversation_id and a.role = 'assistant' and a.parent_id = new.id));
  end if;
  new.reasoning := null;
  new.output := null;
  new.reply_options := null;
  return new;
end
$$;
create or replace trigger messages_forget_deleted before update of deleted_at on messages
  for each row when (
    new.deleted_at is not null
    and (new.reasoning is not null or new.output is not null or new.reply_options is not null)
  )
  execute function forget_deleted();
