-- parley: no transaction
-- Pieces of one and two characters for the search of users, the sweep of old generations, and what several instances know
-- of each other's documents. Indexes are built beside the running instances, since the tables may be large; each statement
-- can be repeated.

-- As text_pieces, for texts that are shorter than its pieces. The function stays in this migration, since an index depends
-- on it.
create or replace function short_pieces(p_text text) returns text[]
language sql immutable parallel safe as
'select coalesce(array_agg(distinct substr(p_text, n, width)), ''{}'')
from generate_series(1, length(p_text)) n, generate_series(1, 2) width';

-- The list of pending entries is short, since every search reads all of it. Without one, a new user would write more than 100 kB
-- to the log: an entry of a piece is written with all users that it has.
create index concurrently if not exists users_search_short on users
using gin (short_pieces(lower(email_key || ' ' || display_name))) with (gin_pending_list_limit = 1024);
alter index users_search set (gin_pending_list_limit = 1024);

-- In the order in which answers end, so that an entry is added at the end of the index. Nothing in it changes while an answer
-- streams.
create index concurrently if not exists generations_finished on generations (finished_at) where status = 'finished';

-- The documents of each running instance: the index holds what any of them has (docs/decisions/0066).
create table if not exists document_lists (
  instance_id uuid primary key,
  host        text not null,
  -- Null: Parley's own guides.
  folder      text,
  -- The same for the same paths and hashes.
  fingerprint text not null,
  -- Parallel.
  paths       text[] not null,
  hashes      text[] not null,
  -- Renewed every few seconds. What is not renewed for a while goes, and its documents with it.
  seen_at     timestamptz not null default now()
) with (fillfactor = 50);

-- One row. The generation rises with each change of the index, so that an instance knows whether what it found before is
-- still right.
create table if not exists document_index (
  is_only    boolean primary key default true check (is_only),
  generation bigint not null default 0
) with (fillfactor = 50);
insert into document_index default values on conflict do nothing;
