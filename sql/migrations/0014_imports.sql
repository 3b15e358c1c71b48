-- Conversations that users import from elsewhere (docs/decisions/0075).

-- For a message supplied by a client that no user wrote, such as an answer in an import: the user who supplied it. Its bytes
-- count toward that user's quota.
alter table messages add column supplied_by uuid;

create table imports (
  id            uuid primary key,
  user_id       uuid not null references users on delete cascade,
  source        text not null check (source in ('chatgpt', 'claude')),
  status        text not null default 'uploading' check (status in ('uploading', 'queued', 'running', 'done', 'failed')),
  -- The uploaded file.
  bytes         bigint not null default 0,
  -- Conversations read from the file. Increased in the transaction that stores one, so a restarted job continues there.
  conversations integer not null default 0,
  imported      integer not null default 0,
  skipped       integer not null default 0,
  messages      bigint not null default 0,
  -- Entries of the report, including those that didn't fit in import_notes.
  noted         integer not null default 0,
  error_code    text,
  error_detail  text,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  finished_at   timestamptz
) with (fillfactor = 70);
create index imports_user on imports (user_id, id);
-- A user has one import at a time.
create unique index imports_open on imports (user_id) where status in ('uploading', 'queued', 'running');

-- The uploaded file in compressed pieces, so that any instance can read it. Deleted when the import ends.
create table import_pieces (
  import_id uuid not null references imports on delete cascade,
  n         integer not null check (n > 0),
  data      bytea not null,
  primary key (import_id, n)
);
-- Already compressed.
alter table import_pieces alter column data set storage external;

-- What was skipped or left out, and why.
create table import_notes (
  import_id uuid not null references imports on delete cascade,
  n         integer not null check (n > 0),
  title     text not null,
  reason    text not null,
  primary key (import_id, n)
);

-- The conversations created by imports, so that importing one again changes nothing.
create table import_sources (
  user_id         uuid not null references users on delete cascade,
  source          text not null,
  -- The conversation's original id, or a hash of its content if it has none.
  source_id       text not null,
  conversation_id uuid not null references conversations on delete cascade,
  primary key (user_id, source, source_id)
);
create index import_sources_conversation on import_sources (conversation_id);
