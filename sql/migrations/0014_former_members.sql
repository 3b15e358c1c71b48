-- State kept for former members: their read position if they are added again, and the bytes they have stored. 0015 counts
-- what was stored before.
create table former_members (
  conversation_id uuid not null references conversations on delete cascade,
  user_id         uuid not null references users on delete cascade,
  last_read_seq   bigint not null,
  read_count      bigint not null,
  written_bytes   bigint not null,
  primary key (conversation_id, user_id)
);
create index former_members_user on former_members (user_id);
