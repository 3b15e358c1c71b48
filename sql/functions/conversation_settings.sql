-- Settings of a conversation that older releases store in `metadata`. If the column is null, an older release wrote the
-- row (docs/decisions/0095). In the next release, fill the columns with a migration and delete these functions.

-- Returns whether models receive excerpts from the documents.
create or replace function uses_documents(p_documents boolean, p_metadata jsonb) returns boolean
language sql immutable as $$
  select coalesce(p_documents, p_metadata -> 'documents' = 'true'::jsonb, false)
$$;

-- Returns true, false, or an array of tool names.
create or replace function chosen_tools(p_tools jsonb, p_metadata jsonb) returns jsonb
language sql immutable as $$
  select coalesce(p_tools, to_jsonb(p_metadata -> 'tools' = 'true'::jsonb), 'false'::jsonb)
$$;
