-- Returns the words of a document in two forms: `simple` keeps them unchanged, so that names, stop words and words of
-- any language match exactly; `english` adds stems, so that "backups" finds "backup". A word that matches in both forms
-- ranks higher. A tsvector can be at most 1 MB, so only the beginning of a longer document is indexed.
create or replace function document_words(title text, headings text, content text) returns tsvector
language plpgsql immutable parallel safe as $$
begin
  return setweight(to_tsvector('pg_catalog.simple', title), 'A')
      || setweight(to_tsvector('pg_catalog.english', title), 'A')
      || setweight(to_tsvector('pg_catalog.simple', headings), 'B')
      || setweight(to_tsvector('pg_catalog.english', headings), 'B')
      || to_tsvector('pg_catalog.simple', content)
      || to_tsvector('pg_catalog.english', content);
exception when program_limit_exceeded then
  return document_words(title, headings, left(content, length(content) / 2));
end
$$;
