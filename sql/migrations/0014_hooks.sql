-- Incoming hooks: a secret URL that lets a program post into one conversation (docs/decisions/0072). A hook acts for the
-- member who created it, and is deleted with their membership.
create table hooks (
  id              uuid primary key,
  conversation_id uuid not null,
  user_id         uuid not null,
  name            text not null,
  -- SHA-256 of the token; the token itself is not stored.
  token_hash      bytea not null check (octet_length(token_hash) = 32),
  last_four       text not null,
  -- The signing secret of posts, encrypted (src/lib/seal.ts); null: no signature required.
  secret          bytea,
  created_at      timestamptz not null default now(),
  foreign key (conversation_id, user_id) references members on delete cascade
);
create unique index hooks_token on hooks (token_hash);
create index hooks_conversation on hooks (conversation_id, user_id);

-- For a message posted by a hook, which has no author_id. They stay when the hook is deleted. hook_user_id: the hook's
-- creator, whose stored bytes include it.
alter table messages add column hook_id uuid, add column hook_name text, add column hook_user_id uuid;
