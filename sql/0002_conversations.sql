-- Conversations, who is in them, what was said, and the log of everything that happened after.

create table conversations (
  id         uuid primary key,
  title      text not null default '',
  kind       text not null check (kind in ('direct', 'group')),
  model      text,
  prompt_id  uuid,
  reply_mode text not null check (reply_mode in ('always', 'mention', 'never')),
  metadata   jsonb not null default '{}',
  -- The conversation's own counter: every durable event takes the next number, without gaps.
  last_seq   bigint not null default 0,
  created_at timestamptz not null default now(),
  -- Of the latest activity. Deliberately not indexed, so that a send is a heap-only update.
  updated_at timestamptz not null default now()
) with (fillfactor = 80);

create table members (
  conversation_id uuid not null references conversations on delete cascade,
  user_id         uuid not null references users on delete cascade,
  role            text not null check (role in ('owner', 'member', 'viewer')),
  last_read_seq   bigint not null default 0,
  joined_at       timestamptz not null default now(),
  primary key (conversation_id, user_id)
);
create index members_user on members (user_id);

-- A message is its own `message.created` event: `seq` is that event's number.
create table messages (
  id                uuid primary key,
  conversation_id   uuid not null references conversations on delete cascade,
  seq               bigint not null,
  role              text not null check (role in ('system', 'user', 'assistant', 'tool')),
  author_id         uuid,
  content           text not null,
  status            text not null default 'complete' check (status in ('complete', 'streaming', 'cancelled', 'failed')),
  model             text,
  finish_reason     text,
  input_tokens      integer,
  output_tokens     integer,
  cost_usd          numeric(14, 8),
  parent_id         uuid,
  client_message_id text,
  error_code        text,
  error_detail      text,
  -- Of an answer: which models wrote it, which documents it was given.
  metadata          jsonb not null default '{}',
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  deleted_at        timestamptz
);
create unique index messages_seq on messages (conversation_id, seq);
-- The conversation comes last, so that no other index suits the look-up of a repeated send (sql/0007) as well.
create unique index messages_client_id on messages (author_id, client_message_id, conversation_id)
  where client_message_id is not null;
create index messages_parent on messages (parent_id) where parent_id is not null;

-- Durable events that are not the creation of a message. `data` holds what the event is about; the content of a
-- message is never copied into it.
create table events (
  conversation_id uuid not null references conversations on delete cascade,
  seq             bigint not null,
  type            text not null,
  message_id      uuid,
  data            jsonb,
  at              timestamptz not null default now(),
  primary key (conversation_id, seq)
);

create table feedback (
  message_id uuid not null references messages on delete cascade,
  user_id    uuid not null references users on delete cascade,
  rating     smallint not null check (rating in (-1, 1)),
  comment    text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (message_id, user_id)
);

-- One run of a model that writes one assistant message.
create table generations (
  id                  uuid primary key,
  message_id          uuid not null unique references messages on delete cascade,
  conversation_id     uuid not null,
  requested_by        uuid,
  model               text,
  status              text not null default 'pending' check (status in ('pending', 'running', 'finished')),
  -- The instance that runs it, and until when that may be believed.
  owner               uuid,
  lease_until         timestamptz,
  -- Rises with each owner: what a former one still writes is refused.
  fence               integer not null default 0,
  -- Rises whenever the text starts again from an earlier point, as readers are told.
  attempt             integer not null default 0,
  -- Stop is a stored command: whoever runs the generation obeys it.
  cancel_requested_at timestamptz,
  created_at          timestamptz not null default now(),
  started_at          timestamptz,
  finished_at         timestamptz
);
create index generations_unfinished on generations (lease_until) where status <> 'finished';
create index generations_conversation on generations (conversation_id) where status <> 'finished';
