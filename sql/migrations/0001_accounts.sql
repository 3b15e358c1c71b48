-- Users, their logins, and the credentials of programs.

create table users (
  id            uuid primary key,
  email         text not null,
  -- The address in the form that is compared: normalised and lower-cased by Parley, since lower() depends on the locale.
  email_key     text not null constraint users_email_key unique,
  display_name  text not null,
  role          text not null default 'user' check (role in ('user', 'admin')),
  password_hash text,
  preferences   jsonb not null default '{}',
  disabled_at   timestamptz,
  -- Set while a user is being deleted, which takes several steps (docs/decisions/0040) by a job. The user is disabled and
  -- has no name then.
  deleting_at   timestamptz,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  constraint users_deleting check (deleting_at is null or disabled_at is not null)
);
create index users_disabled on users (disabled_at) where disabled_at is not null;
create index users_administrators on users (id) where role = 'admin';

-- Substring search in addresses and names: the pieces of three characters that pg_trgm would index, because not every
-- server has pg_trgm. The function stays in this migration, since an index depends on it.
create function text_pieces(p_text text) returns text[]
language sql immutable parallel safe as $$
  select coalesce(array_agg(distinct substr(p_text, n, 3)), '{}') from generate_series(1, length(p_text) - 2) n
$$;
create index users_search on users using gin (text_pieces(lower(email_key || ' ' || display_name)));

-- One login on one device, which is also the family of its refresh tokens: only the newest generation is valid
-- (docs/decisions/0003). `refresh_key` is random; a token is an HMAC over it that cannot be made from this row alone.
-- An ended session stays for a day without its personal data, so that other instances learn of it.
--
-- A token of an OpenID Connect issuer that is used directly is a session too, without a refresh key, since there is
-- nothing to refresh. A session that was opened in exchange for such a token has both. `token_key` is a hash of what the
-- issuer signed; the row stays as long as that token lives, so that an ended token cannot come back.
create table sessions (
  id               uuid primary key,
  user_id          uuid references users on delete set null,
  refresh_key      bytea,
  generation       integer not null default 0,
  rotated_at       timestamptz not null default now(),
  user_agent       text,
  ip_address       text,
  created_at       timestamptz not null default now(),
  last_used_at     timestamptz not null default now(),
  expires_at       timestamptz not null,
  revoked_at       timestamptz,
  revoked_reason   text,
  token_key        bytea,
  token_expires_at timestamptz,
  constraint sessions_token check ((token_key is null) = (token_expires_at is null)),
  constraint sessions_proof check (refresh_key is not null or token_key is not null)
);
create index sessions_user on sessions (user_id);
create index sessions_revoked on sessions (revoked_at) where revoked_at is not null;
-- For the sweep of those that ended long ago.
create index sessions_ended on sessions (least(expires_at, revoked_at));
create unique index sessions_issuer_token on sessions (token_key) where refresh_key is null;
create index sessions_token_key on sessions (token_key) where token_key is not null;

-- Users as an issuer of OpenID Connect knows them (docs/decisions/0041). The pair of issuer and subject identifies a
-- person there, never an e-mail address.
create table identities (
  id         uuid primary key,
  issuer     text not null,
  subject    text not null,
  user_id    uuid not null references users on delete cascade,
  created_at timestamptz not null default now(),
  constraint identities_subject unique (issuer, subject)
);
create index identities_user on identities (user_id);

-- API keys: credentials of programs. A key is random (178 bits), so a plain SHA-256 hides it. A deleted key is gone;
-- instances with connections that were opened with a key look whether it still exists.
create table api_keys (
  id           uuid primary key,
  -- The owner, for whom the key acts.
  user_id      uuid not null references users on delete cascade,
  name         text not null,
  hash         bytea not null constraint api_keys_hash unique,
  -- For people, to tell their keys apart.
  prefix       text not null,
  last_four    text not null,
  scopes       text[] not null check (cardinality(scopes) > 0),
  -- May act for users who are not administrators, as long as its owner is an administrator.
  is_service   boolean not null default false,
  expires_at   timestamptz,
  -- Coarse: written at most once a minute.
  last_used_at timestamptz,
  created_at   timestamptz not null default now()
);
create index api_keys_user on api_keys (user_id, id);
create index api_keys_expires on api_keys (expires_at) where expires_at is not null;

-- Single-use tickets for a browser's WebSocket. Unlogged, because a ticket lives for 30 s. A ticket stands for a session,
-- or for a key and the user it acts for, and expires with the credential that it was made with (null: it does not expire).
create unlogged table tickets (
  hash                  bytea primary key,
  session_id            uuid,
  api_key_id            uuid,
  user_id               uuid,
  expires_at            timestamptz not null,
  credential_expires_at timestamptz,
  constraint tickets_credential check (num_nonnulls(session_id, api_key_id) = 1)
);
create index tickets_expires on tickets (expires_at);

-- Requests with an Idempotency-Key, and their responses (docs/decisions/0042). Kept for a day.
create table idempotency_keys (
  -- A MAC over user, credential, method, path and key: the keys themselves are not stored.
  name        bytea primary key,
  user_id     uuid not null references users on delete cascade,
  -- A MAC over the payload, which may hold passwords: a plain hash of it could be guessed.
  fingerprint bytea not null,
  -- The instance that runs the request, and until when it is taken to be alive; after it, the run counts as lost, and the
  -- next request with this payload runs again, under a higher fence.
  owner       uuid not null,
  -- Starts anywhere: a row that is deleted and made again is not taken for the former one.
  fence       integer not null default floor(random() * 1000000000),
  lease_until timestamptz not null,
  -- Null during the run.
  ended_at    timestamptz,
  -- Status, headers and body, sealed, since responses can hold secrets. Null: not kept (a stream, or too large).
  answer      bytea,
  created_at  timestamptz not null default now()
) with (fillfactor = 80);
-- Sealed bytes cannot be compressed.
alter table idempotency_keys alter column answer set storage external;
create index idempotency_keys_user on idempotency_keys (user_id);
create index idempotency_keys_created on idempotency_keys (created_at);
