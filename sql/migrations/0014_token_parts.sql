-- Parts of an answer's tokens: of `input_tokens` those that were read from the provider's cache, of `output_tokens` the
-- reasoning. Null: not known. Before 0015, so that 0015 stays the last one of its release (docs/decisions/0063).
alter table messages add column cached_input_tokens integer, add column reasoning_tokens integer;
