-- The extension point of the event log: append_events calls it with every durable event, in the transaction of the
-- event. What it writes is committed with the event, or not at all. Nothing is derived from events yet.
create or replace function on_events_appended(
  p_conversations uuid[], p_seqs bigint[], p_types text[], p_messages uuid[], p_data jsonb[], p_at timestamptz
)
returns void
language plpgsql
as $$
begin
end
$$;
