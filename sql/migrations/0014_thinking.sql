-- Reasoning of the models of an answer in progress before their tool calls, encrypted with a key of this server. The
-- instance that takes over the answer sends it back to the same provider. Deleted when the answer ends.
create table generation_thinking (
  conversation_id uuid not null,
  generation_id   uuid not null,
  -- Which round of tool calls it led to; the first is 1.
  step            integer not null check (step > 0),
  data            bytea not null,
  primary key (conversation_id, generation_id, step)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
