-- Templates of system prompts. A template is never changed: each change is a further version, and the newest counts.

create table prompts (
  id         uuid primary key,
  user_id    uuid not null references users on delete cascade,
  name       text not null,
  version    integer not null default 1,
  -- What new conversations of this user begin with.
  is_default boolean not null default false,
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

alter table conversations
  add constraint conversations_prompt foreign key (prompt_id) references prompts on delete set null;
create index conversations_prompt on conversations (prompt_id) where prompt_id is not null;
