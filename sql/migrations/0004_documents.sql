-- The index of the markdown documents. The files themselves stay in their folder; these rows are made again from them
-- whenever they change.

create table documents (
  -- Ordered by bytes, so that a page continues at the same place whatever the database's language is.
  path       text collate "C" primary key,
  title      text not null,
  headings   jsonb not null,
  size       integer not null,
  hash       text not null,
  updated_at timestamptz not null,
  words      tsvector not null
);
create index documents_words on documents using gin (words);

-- Sections of a document, cut where they are long: the passages that a model is given.
create table document_passages (
  path     text collate "C" not null references documents on delete cascade,
  position integer not null,
  heading  text,
  content  text not null,
  words    tsvector not null,
  primary key (path, position)
);
create index document_passages_words on document_passages using gin (words);
