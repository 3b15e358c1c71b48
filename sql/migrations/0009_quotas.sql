-- What quotas are counted by (docs/decisions/0065).

-- Whether the member created the conversation, which then counts in their quota. The other members were added.
alter table members add column is_creator boolean not null default false;
update members m set is_creator = true from conversations c
where c.id = m.conversation_id and m.role = 'owner' and m.joined_at = c.created_at;

-- How many versions of a prompt are kept, and the UTF-8 bytes of their templates.
alter table prompts
  add column versions integer not null default 0,
  add column stored_bytes bigint not null default 0;
update prompts p set versions = v.versions, stored_bytes = v.bytes
from (select prompt_id, count(*) as versions, sum(octet_length(template)) as bytes from prompt_versions group by prompt_id) v
where v.prompt_id = p.id;

-- Live sessions by their last use: a login beyond the quota ends those that have not been used for longest.
create index sessions_live on sessions (user_id, last_used_at) where revoked_at is null;
