-- Scheduled backups (src/modules/backups): how far they have come. One row, so all instances see the same.
create table backup_schedule (
  id           boolean primary key default true check (id),
  -- In the names of backups: two databases can share a folder, and none deletes the backups of the other.
  origin       text not null default substr(md5(gen_random_uuid()::text), 1, 8),
  -- What was scheduled until then is done. What is scheduled later and has passed is due.
  done_until   timestamptz not null default now(),
  -- The last one that succeeded.
  succeeded_at timestamptz,
  name         text,
  bytes        bigint,
  -- Attempts that failed since.
  failures     integer not null default 0,
  retry_at     timestamptz,
  error        text
);
