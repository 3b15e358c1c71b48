-- Thinking before the tool calls of an answer in progress, sealed with a key of this server. An instance that takes the answer
-- over sends it back to the provider that returned it. Deleted when the answer ends.
create table generation_thinking (
  conversation_id uuid not null,
  generation_id   uuid not null,
  -- Of the calls that it led to; the first is 1.
  step            integer not null check (step > 0),
  data            bytea not null,
  primary key (conversation_id, generation_id, step)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);
