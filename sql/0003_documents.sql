-- The index of the markdown documents. The files themselves stay where they are: what is here can be made again from
-- them at any time, and is, whenever they change.

-- Words in two ways: `simple` keeps them as they are, so that every language, every name and every stop word is found
-- exactly; `english` adds stems, so that "backups" finds "backup". A word that fits in both ways ranks higher.
-- A tsvector holds 1 MB. What is too rich for that is indexed as far as it fits, from its beginning.
create function document_words(title text, headings text, content text) returns tsvector
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

-- What a person typed into a search field: words, "phrases", or, -not. It never fails.
create function document_query(typed text) returns tsquery
language sql immutable parallel safe as $$
  select websearch_to_tsquery('pg_catalog.simple', typed) || websearch_to_tsquery('pg_catalog.english', typed)
$$;

create table documents (
  -- Bytes decide the order, so that a page goes on at the same place whatever the database's language is.
  path       text collate "C" primary key,
  title      text not null,
  headings   jsonb not null,
  size       integer not null,
  hash       text not null,
  updated_at timestamptz not null,
  words      tsvector not null
);
create index documents_words on documents using gin (words);

-- A document in pieces that a model can be given: sections, cut where they are long.
create table document_passages (
  path     text collate "C" not null references documents on delete cascade,
  position integer not null,
  heading  text,
  content  text not null,
  words    tsvector not null,
  primary key (path, position)
);
create index document_passages_words on document_passages using gin (words);
