-- Full text search in messages (docs/decisions/0074). Before 0015, so that 0015 stays the last one of its release
-- (docs/decisions/0063). `members` is the only table in use that this changes.

-- Whether the search index knows the member: 0: messages are found by their conversation; 1: new entries name the member, older ones
-- do not all yet; 2: all entries of the conversation name the member. Only index_member and the indexer write it.
alter table members add column search_scope smallint not null default 0;

-- One row for each message that can be found. `words` holds the words of its text, and marks that no text can produce
-- (sql/functions/search_mark.sql): of the members, of the conversation, of the role and of the month. So one look at one index
-- finds the words within the messages of one caller.
create table search_entries (
  conversation_id uuid not null,
  seq             bigint not null,
  role            text not null,
  at              timestamptz not null,
  words           tsvector not null,
  primary key (conversation_id, seq)
) with (autovacuum_vacuum_scale_factor = 0.05);
-- Its pending list, which readers have to go through, holds a batch of the indexer at most, which puts it away itself
-- (store_search_entries). In kilobytes.
create index search_entries_words on search_entries using gin (words) with (gin_pending_list_limit = 1024);

-- What the index does not know yet: one row for each call of append_events, with parallel arrays, so that a send hardly pays for
-- it. A message is named when it is created, edited, completed or deleted.
create table search_outbox (
  id            bigint generated always as identity primary key,
  conversations uuid[] not null,
  messages      uuid[] not null
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);

-- Messages to be indexed in the background, from `until_seq` down to `first_seq`: of a new member, of an import, of before the
-- index was made.
create table search_ranges (
  id              bigint generated always as identity primary key,
  conversation_id uuid not null,
  first_seq       bigint not null,
  until_seq       bigint not null,
  -- Who has search_scope 2 when it is done: this member; null: all who have 1 when `is_backfill`, else nobody.
  user_id         uuid,
  is_backfill     boolean not null default false
);
create index search_ranges_conversation on search_ranges (conversation_id, user_id);

-- How many entries name a user: new ones count up, older ones down. 1,024 share a mark.
create table search_counts (
  user_id uuid primary key references users on delete cascade,
  -- The next number of a new message, and the next one of an older message.
  next    bigint not null default 0,
  before  bigint not null default -1
) with (fillfactor = 50);

-- Progress of indexing older messages: all conversations with an id from `before_id` on are indexed. Null: all conversations.
-- `language`: the language of the index; if the setting changes, the index is rebuilt.
create table search_state (
  is_only   boolean primary key default true check (is_only),
  language  text not null default '',
  before_id uuid
);
insert into search_state default values;
