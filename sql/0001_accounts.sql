-- People and their logins.

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
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now()
);

-- One login on one device, and at once the family of its refresh tokens: only the newest generation is good
-- (docs/decisions/0003). `refresh_key` is random; a token is an HMAC over it that nobody can make from this row alone.
-- An ended session stays for a day without its personal data, so that other instances learn of it.
create table sessions (
  id             uuid primary key,
  user_id        uuid references users on delete set null,
  refresh_key    bytea not null,
  generation     integer not null default 0,
  rotated_at     timestamptz not null default now(),
  user_agent     text,
  ip_address     text,
  created_at     timestamptz not null default now(),
  last_used_at   timestamptz not null default now(),
  expires_at     timestamptz not null,
  revoked_at     timestamptz,
  revoked_reason text
);
create index sessions_user on sessions (user_id);
create index sessions_revoked on sessions (revoked_at) where revoked_at is not null;

-- Single use, for the WebSocket of a browser. Not worth the log: a ticket lives for 30 s. What it stands for ends with
-- the access token that it was made with.
create unlogged table tickets (
  hash                  bytea primary key,
  session_id            uuid not null,
  expires_at            timestamptz not null,
  credential_expires_at timestamptz not null
);
