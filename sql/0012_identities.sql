-- People as an issuer of OpenID Connect knows them (docs/decisions/0041). Who somebody is there is the pair of issuer and
-- subject, never an e-mail address.
create table identities (
  id         uuid primary key,
  issuer     text not null,
  subject    text not null,
  user_id    uuid not null references users on delete cascade,
  created_at timestamptz not null default now(),
  constraint identities_subject unique (issuer, subject)
);
create index identities_user on identities (user_id);

-- A token of the issuer that is used by itself is a session too: without a refresh key, since there is nothing to refresh.
-- A session that was opened in exchange for such a token has both. `token_key` is a hash of what the issuer signed; as
-- long as that token lives the row stays, so that an ended token cannot come back.
alter table sessions
  alter column refresh_key drop not null,
  add column token_key bytea,
  add column token_expires_at timestamptz,
  add constraint sessions_token check ((token_key is null) = (token_expires_at is null)),
  add constraint sessions_proof check (refresh_key is not null or token_key is not null);
create unique index sessions_issuer_token on sessions (token_key) where refresh_key is null;
create index sessions_token_key on sessions (token_key) where token_key is not null;
