-- Parts of an answer's tokens: the `input_tokens` read from the provider's cache, and the `output_tokens` used for
-- reasoning. Null: unknown. Before 0015, so that 0015 stays the last one of its release (docs/decisions/0063).
alter table messages add column cached_input_tokens integer, add column reasoning_tokens integer;
