-- What is kept of a member who has left: where they go on if they are added again, and the bytes that they have stored. What
-- was stored before is counted by 0015.
create table former_members (
  conversation_id uuid not null references conversations on delete cascade,
  user_id         uuid not null references users on delete cascade,
  last_read_seq   bigint not null,
  read_count      bigint not null,
  written_bytes   bigint not null,
  primary key (conversation_id, user_id)
);
create index former_members_user on former_members (user_id);
