-- What quotas are counted by (docs/decisions/0065), together with members.is_creator (0012). What was stored before is counted
-- by 0015.

-- How many versions of a prompt are kept, and the UTF-8 bytes of their templates.
alter table prompts
  add column versions integer not null default 0,
  add column stored_bytes bigint not null default 0;
