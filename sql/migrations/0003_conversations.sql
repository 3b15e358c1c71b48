-- Conversations, their members, messages and events, and the generations that write answers.
--
-- Every table of a conversation has `conversation_id` first in its key, and every unique index contains it, so that the
-- tables can be partitioned by it (by hash, or with Citus). Look-ups name the conversation wherever it is known.
-- Tables whose rows change often keep free space in their pages (fillfactor) and have no index on what changes: such an
-- update is heap-only (HOT), it writes no index and little WAL.

create table conversations (
  id         uuid primary key,
  title      text not null default '',
  kind       text not null check (kind in ('direct', 'group')),
  model      text,
  prompt_id  uuid references prompts on delete set null,
  reply_mode text not null check (reply_mode in ('always', 'mention', 'never')),
  metadata   jsonb not null default '{}',
  -- Set when the title is final: a model sets it once at most, and never after a person. Null: not settled.
  titled_by  text check (titled_by in ('model', 'person')),
  -- The number of the newest event: every durable event takes the next one, without gaps. Only take_seqs writes it.
  last_seq   bigint not null default 0 check (last_seq >= 0),
  created_at timestamptz not null default now(),
  -- Of the latest event. Not indexed, so that a send is a heap-only update.
  updated_at timestamptz not null default now(),
  -- Set when it is deleted: it has no members any more, so nobody finds it, and a job deletes its rows in batches.
  deleted_at timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
create index conversations_deleted on conversations (deleted_at) where deleted_at is not null;
create index conversations_prompt on conversations (prompt_id) where prompt_id is not null;

create table members (
  conversation_id uuid not null references conversations on delete cascade,
  user_id         uuid not null references users on delete cascade,
  role            text not null check (role in ('owner', 'member', 'viewer')),
  last_read_seq   bigint not null default 0 check (last_read_seq >= 0),
  joined_at       timestamptz not null default now(),
  primary key (conversation_id, user_id)
) with (fillfactor = 80);
create index members_user on members (user_id, conversation_id);

-- A message is its own `message.created` event: `seq` is the number of that event. A row is written when the message is
-- created and, for an answer of a model, once more when it ends. While an answer streams, `content` is empty and the text
-- so far is in generation_pieces: read it from the view current_messages.
create table messages (
  conversation_id   uuid not null references conversations on delete cascade,
  seq               bigint not null check (seq > 0),
  id                uuid not null,
  role              text not null check (role in ('system', 'user', 'assistant', 'tool')),
  author_id         uuid,
  content           text not null,
  status            text not null default 'complete' check (status in ('complete', 'streaming', 'cancelled', 'failed')),
  model             text,
  finish_reason     text
    check (finish_reason in ('stop', 'length', 'tool_calls', 'content_filter', 'cancelled', 'error')),
  input_tokens      integer,
  output_tokens     integer,
  cost_usd          numeric(14, 8),
  parent_id         uuid,
  client_message_id text,
  error_code        text,
  error_detail      text,
  -- Of an answer: the models that wrote it, the documents it was given.
  metadata          jsonb not null default '{}',
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  deleted_at        timestamptz,
  primary key (conversation_id, seq)
);
-- For frames that name only a message. Not unique, so that the table can be partitioned; with the conversation, so that
-- a look-up that names both cannot be planned by any other index.
create index messages_id on messages (id, conversation_id);
create unique index messages_client_id on messages (conversation_id, author_id, client_message_id)
  where client_message_id is not null;
-- With the number, so that the first answer to a message is not looked for along the numbers of the conversation.
create index messages_parent on messages (conversation_id, parent_id, seq) where parent_id is not null;

-- Durable events other than `message.created`. `data` holds what the event is about; the content of a message is never
-- copied into it. Only append_events writes here.
create table events (
  conversation_id uuid not null references conversations on delete cascade,
  seq             bigint not null check (seq > 0),
  type            text not null check (type in ('message.updated', 'message.deleted', 'message.completed',
                    'member.added', 'member.removed', 'conversation.updated', 'conversation.deleted')),
  message_id      uuid,
  data            jsonb,
  at              timestamptz not null,
  primary key (conversation_id, seq)
);
-- For the deletion of a user, whose name is in these events.
create index events_member on events ((data ->> 'user_id')) where type in ('member.added', 'member.removed');

create table feedback (
  conversation_id uuid not null,
  message_seq     bigint not null,
  user_id         uuid not null references users on delete cascade,
  message_id      uuid not null,
  rating          smallint not null check (rating in (-1, 1)),
  comment         text,
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  primary key (conversation_id, message_seq, user_id),
  foreign key (conversation_id, message_seq) references messages on delete cascade
);
create index feedback_user on feedback (user_id, message_id);

-- One run of a model that writes one assistant message. The owner renews its lease every other second; no index contains
-- what that changes.
create table generations (
  conversation_id     uuid not null references conversations on delete cascade,
  id                  uuid not null,
  message_id          uuid not null,
  message_seq         bigint not null check (message_seq > 0),
  requested_by        uuid,
  model               text,
  status              text not null default 'pending' check (status in ('pending', 'running', 'finished')),
  -- The instance that runs it, and until when it is taken to be alive. One that nobody has begun is left for a while to
  -- the instance that made it. Null once it has ended.
  owner               uuid,
  lease_until         timestamptz default now() + interval '5 s',
  -- Rises with each owner: late writes of a former owner are refused.
  fence               integer not null default 0 check (fence >= 0),
  -- Rises whenever the text starts again from an earlier point.
  attempt             integer not null default 0 check (attempt >= 0),
  -- A stop is a stored command, which the owner obeys.
  cancel_requested_at timestamptz,
  created_at          timestamptz not null default now(),
  started_at          timestamptz,
  finished_at         timestamptz,
  primary key (conversation_id, id),
  constraint generations_message unique (conversation_id, message_seq),
  constraint generations_running check (status <> 'running' or owner is not null),
  constraint generations_leased check (status = 'finished' or lease_until is not null)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
-- In the order of their ids, which is that of their creation: for the sweep of orphans and of reservations.
create index generations_unfinished on generations (id) where status <> 'finished';
create index generations_requested on generations (requested_by, conversation_id) where status <> 'finished';
create index generations_unfinished_in on generations (conversation_id) where status <> 'finished';

-- The text so far of answers in progress: appended about twice a second, deleted when the answer ends. Rewriting the whole
-- text in the message instead takes two to three times the WAL (docs/decisions/0047).
create table generation_pieces (
  conversation_id uuid not null,
  generation_id   uuid not null,
  n               integer not null check (n > 0),
  text            text not null,
  primary key (conversation_id, generation_id, n)
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);

-- The rolling summary of a branch: it stands for the message `message_id` and all messages before it on its path.
create table summaries (
  conversation_id uuid not null references conversations on delete cascade,
  -- The seq of that message: no later message is covered.
  until_seq       bigint not null check (until_seq > 0),
  id              uuid not null,
  message_id      uuid not null,
  content         text not null,
  model           text not null,
  input_tokens    integer,
  output_tokens   integer,
  cost_usd        numeric(14, 8),
  created_at      timestamptz not null default now(),
  primary key (conversation_id, until_seq)
);

-- What send_messages decides of one item, between its statements. Like a function, a type whose shape changes gets a new
-- name.
create type send_verdict as (
  n                 bigint,
  id                uuid,
  conversation      uuid,
  author            uuid,
  client_id         text,
  content           text,
  parent            uuid,
  answer_id         uuid,
  generation_id     uuid,
  answer_model      text,
  outcome           text,
  existing_id       uuid,
  exceeded          text,
  is_new            boolean,
  is_answered       boolean,
  -- Of a new item: the position of its conversation among those that get messages, and the numbers that earlier items of
  -- the batch take there.
  conversation_rank integer,
  seq_offset        integer
);
