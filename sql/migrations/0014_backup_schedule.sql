-- The state of scheduled backups (src/modules/backups). One row, shared by all instances.
create table backup_schedule (
  id           boolean primary key default true check (id),
  -- Part of backup names: two databases can share a folder without deleting each other's backups.
  origin       text not null default substr(md5(gen_random_uuid()::text), 1, 8),
  -- Backups scheduled until then are done. Those scheduled later are due once their time has passed.
  done_until   timestamptz not null default now(),
  -- The last successful one.
  succeeded_at timestamptz,
  name         text,
  bytes        bigint,
  -- Failed attempts since.
  failures     integer not null default 0,
  retry_at     timestamptz,
  error        text
);
