-- What was asked under an Idempotency-Key, and what it was answered (docs/decisions/0042). Kept for a day.
create table idempotency_keys (
  -- A MAC over user, credential, method, path and key: the keys themselves are not in here.
  name        bytea primary key,
  user_id     uuid not null references users on delete cascade,
  -- A MAC over the payload, which may hold passwords: a plain hash of it could be guessed.
  fingerprint bytea not null,
  -- Who runs it; whoever takes over a run that was lost has another one.
  claim_id    uuid not null,
  -- Renewed while it runs. Past it the run is lost, and the next request with this payload runs again.
  lease_until timestamptz not null,
  -- Null while it runs.
  ended_at    timestamptz,
  -- Status, headers and body, sealed, since answers can hold secrets. Null: not kept (a stream, or too large).
  answer      bytea,
  created_at  timestamptz not null default now()
);
-- What is sealed cannot be compressed.
alter table idempotency_keys alter column answer set storage external;
create index idempotency_keys_user on idempotency_keys (user_id);
create index idempotency_keys_created on idempotency_keys (created_at);
