-- Converts a user's search query with words, "phrases", `or` and -excluded words. Never fails.
create or replace function document_query(typed text) returns tsquery
language sql immutable parallel safe as $$
  select websearch_to_tsquery('pg_catalog.simple', typed) || websearch_to_tsquery('pg_catalog.english', typed)
$$;
