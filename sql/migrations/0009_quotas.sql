-- What quotas are counted by (docs/decisions/0065). What was stored before is counted by 0014.

-- Whether the member created the conversation, which then counts in their quota. The other members were added.
alter table members add column is_creator boolean not null default false;

-- How many versions of a prompt are kept, and the UTF-8 bytes of their templates.
alter table prompts
  add column versions integer not null default 0,
  add column stored_bytes bigint not null default 0;
