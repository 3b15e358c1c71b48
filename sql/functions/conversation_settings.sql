-- Settings of a conversation that older releases keep in `metadata`: if the column is null, an older release wrote the row
-- (docs/decisions/0095). One release later, fill the columns by a migration and delete these functions.

-- Whether models receive excerpts from the documents.
create or replace function uses_documents(p_documents boolean, p_metadata jsonb) returns boolean
language sql immutable as $$
  select coalesce(p_documents, p_metadata -> 'documents' = 'true'::jsonb, false)
$$;

-- True, false, or an array of tool names.
create or replace function chosen_tools(p_tools jsonb, p_metadata jsonb) returns jsonb
language sql immutable as $$
  select coalesce(p_tools, to_jsonb(p_metadata -> 'tools' = 'true'::jsonb), 'false'::jsonb)
$$;
