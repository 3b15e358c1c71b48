-- Templates of system prompts. A template never changes: each change adds a version, and the newest one is used.

create table prompts (
  id         uuid primary key,
  user_id    uuid not null references users on delete cascade,
  name       text not null,
  version    integer not null default 1,
  -- Used by this user's new conversations.
  is_default boolean not null default false,
  -- Set while a job takes it out of the conversations that use it. To everybody it is not there any more.
  deleted_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index prompts_user on prompts (user_id, id);
create unique index prompts_default on prompts (user_id) where is_default;

create table prompt_versions (
  prompt_id  uuid not null references prompts on delete cascade,
  version    integer not null,
  template   text not null,
  created_at timestamptz not null default now(),
  primary key (prompt_id, version)
);
