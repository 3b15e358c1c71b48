-- All documents that a query finds, with their ranks, best first. By the index, since a look at a document's words costs much
-- more than a plan expects: most of them are stored outside of their row.
create or replace function search_documents(p_typed text) returns table (path text, rank float8)
language plpgsql stable
set enable_seqscan = off
as $$
declare
  query constant tsquery := document_query(p_typed);
begin
  return query
    select d.path, ts_rank(d.words, query, 1 | 32)::float8 as rank from documents d where d.words @@ query
    order by rank desc, d.path;
end
$$;
