-- Queues messages of p_conversation, whose sequence numbers are in this range, for background indexing. Used for
-- messages that were not appended by append_events.
create or replace function add_search_range(p_conversation uuid, p_first_seq bigint, p_until_seq bigint) returns void
language sql as $$
  insert into search_ranges (conversation_id, first_seq, until_seq) values (p_conversation, p_first_seq, p_until_seq)
$$;
