-- Returns all documents that match a query, with their ranks, best first. Forces the use of the index, because reading a
-- document's words costs much more than the planner expects: most are stored out of line.
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
