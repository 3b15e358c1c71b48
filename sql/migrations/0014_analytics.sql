-- Analytics (docs/decisions/0073): figures in slots of 15 minutes (UTC), so that the days of every time zone are sums of slots,
-- and in days (UTC) for long spans. They hold numbers only: no text, and no id of a conversation.

-- Of an answer: from the beginning of its generation to its first text. Null: not known.
alter table messages add column first_token_ms integer;

-- One row.
create table analytics_state (
  is_only       boolean primary key default true check (is_only),
  -- Slots before it are counted, and counted again only if they are marked as stale. Null: nothing is counted yet.
  frontier      timestamptz,
  -- What was created before it is counted.
  counted_until timestamptz not null default '-infinity',
  -- The figures show what was stored at this time: the same, or a stale slot before it.
  as_of         timestamptz not null default '-infinity',
  refreshed_at  timestamptz not null default '-infinity',
  -- How long the last step took, as far as the next one does the same again: it counts the newest slots once more.
  took_ms       integer not null default 0
) with (fillfactor = 50);
insert into analytics_state default values;

-- Slots to count again. There is no key, so that transactions that mark the same slot don't wait for each other.
create table analytics_stale_slots (
  slot timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- Deleted conversations whose slots are still to be marked.
create table analytics_deleted_conversations (
  conversation_id uuid primary key references conversations on delete cascade
);

-- Small numbers for ids, so that sets of users and of conversations are short. A number is never given out again. That of a
-- user stays like the id in their messages; that of a conversation goes with it.
create table analytics_users (
  user_id uuid primary key,
  n       integer not null generated always as identity constraint analytics_users_n unique
);
create table analytics_conversations (
  conversation_id uuid primary key references conversations on delete cascade,
  n               integer not null generated always as identity
);

create table analytics_slot_figures (
  slot                timestamptz not null,
  -- The model of answers; '' for everything else.
  model               text not null,
  messages            bigint not null,
  system_messages     bigint not null,
  user_messages       bigint not null,
  assistant_messages  bigint not null,
  tool_messages       bigint not null,
  generations         bigint not null,
  failed_generations  bigint not null,
  input_tokens        bigint not null,
  output_tokens       bigint not null,
  cached_input_tokens bigint not null,
  reasoning_tokens    bigint not null,
  cost_usd            numeric not null,
  positive_feedback   bigint not null,
  negative_feedback   bigint not null,
  -- How many answers had their first token in which time (first_token_bucket). Parallel.
  first_token_buckets smallint[] not null,
  first_token_counts  bigint[] not null,
  primary key (slot, model)
);

-- Numbers of the users who wrote something, and of the conversations in which something was written.
create table analytics_slot_actives (
  slot          timestamptz primary key,
  users         integer[] not null,
  conversations integer[] not null
);

-- What users did. Parallel: an element for each user with something in the slot.
create table analytics_slot_users (
  slot               timestamptz primary key,
  users              integer[] not null,
  messages           integer[] not null,
  generations        integer[] not null,
  failed_generations integer[] not null,
  input_tokens       bigint[] not null,
  output_tokens      bigint[] not null,
  -- In units of 0.00000001 USD, as precise as messages.cost_usd.
  cost               bigint[] not null
);

-- Sessions by the time of their login. Apart, since ended sessions are deleted: they cannot be counted again.
create table analytics_slot_sessions (
  slot     timestamptz primary key,
  sessions bigint not null
);

-- Days for which the tables below are right.
create table analytics_days (
  day          timestamptz primary key,
  is_rolled_up boolean not null
);
create index analytics_days_due on analytics_days (day) where not is_rolled_up;

create table analytics_day_figures (
  day                 timestamptz not null,
  model               text not null,
  messages            bigint not null,
  system_messages     bigint not null,
  user_messages       bigint not null,
  assistant_messages  bigint not null,
  tool_messages       bigint not null,
  generations         bigint not null,
  failed_generations  bigint not null,
  input_tokens        bigint not null,
  output_tokens       bigint not null,
  cached_input_tokens bigint not null,
  reasoning_tokens    bigint not null,
  cost_usd            numeric not null,
  positive_feedback   bigint not null,
  negative_feedback   bigint not null,
  first_token_buckets smallint[] not null,
  first_token_counts  bigint[] not null,
  sessions            bigint not null,
  primary key (day, model)
);

-- Sets of numbers as bitmaps: bit `n % 8192` of segment `n / 8192`. A bitmap of 1 kB stays in its row, uncompressed.
create table analytics_day_actives (
  day     timestamptz not null,
  kind    text not null check (kind in ('user', 'conversation')),
  segment integer not null,
  bits    bit(8192) not null,
  primary key (day, kind, segment)
);

-- Element `k` counts who is active in the slot, and was not in the `k - 1` slots before it. So the different users of a span are
-- the sum of one element of each of its slots. For slots of days that are rolled up.
create table analytics_slot_arrivals (
  slot          timestamptz primary key,
  users         integer[] not null,
  conversations integer[] not null
);

create table analytics_day_users (
  n                  integer not null,
  messages           integer not null,
  generations        integer not null,
  failed_generations integer not null,
  day                timestamptz not null,
  input_tokens       bigint not null,
  output_tokens      bigint not null,
  cost               bigint not null,
  primary key (day, n)
);
create index analytics_day_users_n on analytics_day_users (n);
