-- Webhooks: their receivers, events and deliveries (docs/decisions/0070). Before 0015, so that 0015 stays the last one of
-- its release (docs/decisions/0063).

create table webhooks (
  id                    uuid primary key,
  user_id               uuid not null references users on delete cascade,
  url                   text not null,
  -- Event types; only '*': all.
  events                text[] not null check (cardinality(events) > 0),
  description           text,
  -- Encrypted with a key of the server's secret. After a rotation, the previous one signs too, for a limited time.
  secret                text not null,
  previous_secret       text,
  previous_secret_until timestamptz,
  disabled_at           timestamptz,
  disabled_reason       text check (disabled_reason in ('gone', 'exhausted', 'user')),
  -- Set while it is being deleted: it can't be found and is disabled, and its deliveries are deleted in batches.
  deleted_at            timestamptz,
  -- Set when the receiver asked to pause deliveries.
  paused_until          timestamptz,
  -- The delivering instance, see src/db/leases.ts.
  owner                 uuid,
  fence                 integer not null default 0 check (fence >= 0),
  lease_until           timestamptz not null default now(),
  created_at            timestamptz not null default now(),
  updated_at            timestamptz not null default now(),
  constraint webhooks_disabled check ((disabled_at is null) = (disabled_reason is null)),
  constraint webhooks_deleted check (deleted_at is null or disabled_at is not null)
) with (fillfactor = 50);
create index webhooks_user on webhooks (user_id, id);
create index webhooks_enabled on webhooks (id) where disabled_at is null;
-- Checked by each append of the log: does any webhook want one of these types?
create index webhooks_events on webhooks using gin (events) where disabled_at is null;

-- Events in the transaction of the change; soon expanded to a delivery for each webhook that wants it. One row for each call
-- of append_events, with parallel arrays, so that a send pays little for it.
create table webhook_outbox (
  id            bigint generated always as identity primary key,
  conversations uuid[] not null,
  seqs          bigint[] not null,
  types         text[] not null,
  -- Null, or parallel too.
  messages      uuid[],
  -- The user whom an event is about; only they and administrators receive it.
  users         uuid[],
  data          jsonb[],
  at            timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000);

-- Members lose their membership when their conversation is deleted: lists those whose webhooks still receive its earlier
-- events and its deletion.
create table webhook_farewells (
  conversation_id uuid not null,
  webhook_id      uuid not null references webhooks on delete cascade,
  at              timestamptz not null default now(),
  primary key (conversation_id, webhook_id)
);
create index webhook_farewells_webhook on webhook_farewells (webhook_id);
create index webhook_farewells_at on webhook_farewells (at);

create table webhook_deliveries (
  -- A UUIDv7: the header `webhook-id`, the same in every attempt.
  id              uuid primary key,
  -- The order in which deliveries of the same time begin.
  n               bigint generated always as identity,
  webhook_id      uuid not null references webhooks on delete cascade,
  type            text not null,
  -- Without foreign keys: a delivery outlives its subject. It contains no message content, and no names of people.
  conversation_id uuid,
  seq             bigint,
  message_id      uuid,
  user_id         uuid,
  -- Null: the subject is read at delivery.
  data            jsonb,
  occurred_at     timestamptz not null,
  status          text not null default 'pending' check (status in ('pending', 'delivered', 'failed')),
  attempts        integer not null default 0 check (attempts >= 0),
  next_attempt_at timestamptz,
  last_attempt_at timestamptz,
  response_status integer,
  -- The first kilobyte.
  response_body   text,
  error           text,
  duration_ms     integer,
  created_at      timestamptz not null default now(),
  finished_at     timestamptz,
  constraint webhook_deliveries_due check ((status = 'pending') = (next_attempt_at is not null)),
  constraint webhook_deliveries_finished check ((status = 'pending') = (finished_at is null))
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);
create index webhook_deliveries_due on webhook_deliveries (webhook_id, next_attempt_at, n) where status = 'pending';
create index webhook_deliveries_webhook on webhook_deliveries (webhook_id, id);
-- For the list of failed deliveries, which are few.
create index webhook_deliveries_failed on webhook_deliveries (webhook_id, id) where status = 'failed';
-- For the erasure of conversations.
create index webhook_deliveries_quotes on webhook_deliveries (conversation_id, id)
  where data is not null or response_body is not null;
create index webhook_deliveries_old on webhook_deliveries (finished_at) where status <> 'pending';

-- When webhooks were notified of the exhausted budget: once for each window.
alter table budget_windows add column told_at timestamptz;
