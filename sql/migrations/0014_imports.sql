-- Conversations that users bring along from elsewhere (docs/decisions/0075).

-- Of a message that a client brought along and that no user wrote, such as an answer in an import: the user who did. Its bytes
-- count in the quota of that user.
alter table messages add column supplied_by uuid;

create table imports (
  id            uuid primary key,
  user_id       uuid not null references users on delete cascade,
  source        text not null check (source in ('chatgpt', 'claude')),
  status        text not null default 'uploading' check (status in ('uploading', 'queued', 'running', 'done', 'failed')),
  -- Of the file, as it was uploaded.
  bytes         bigint not null default 0,
  -- Those that were read from the file. It rises in the transaction that stores one, so a restarted job goes on there.
  conversations integer not null default 0,
  imported      integer not null default 0,
  skipped       integer not null default 0,
  messages      bigint not null default 0,
  -- Entries of the report, with those that had no room in import_notes.
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

-- The uploaded file in compressed pieces, so that any instance can read it. They are deleted when the import ends.
create table import_pieces (
  import_id uuid not null references imports on delete cascade,
  n         integer not null check (n > 0),
  data      bytea not null,
  primary key (import_id, n)
);
-- It is compressed already.
alter table import_pieces alter column data set storage external;

-- What was skipped or left out, and why.
create table import_notes (
  import_id uuid not null references imports on delete cascade,
  n         integer not null check (n > 0),
  title     text not null,
  reason    text not null,
  primary key (import_id, n)
);

-- Which conversation an imported one has become, so that importing it again changes nothing.
create table import_sources (
  user_id         uuid not null references users on delete cascade,
  source          text not null,
  -- The conversation's id there, or a hash of its content where it has none.
  source_id       text not null,
  conversation_id uuid not null references conversations on delete cascade,
  primary key (user_id, source, source_id)
);
create index import_sources_conversation on import_sources (conversation_id);
