-- Work that any instance does by and by (src/jobs): what is done at intervals by one instance at a time, and queues of
-- what is done once. An instance takes a row by its lease (src/db/leases.ts).

create table jobs (
  queue       text not null,
  -- What it is about: the same is not queued twice.
  key         text not null,
  attempts    integer not null default 0 check (attempts >= 0),
  owner       uuid,
  -- Starts anywhere: a row that is deleted and made again is not taken for the former one.
  fence       integer not null default floor(random() * 1000000000),
  -- Nobody takes it before: while it is at work the end of its lease, otherwise its next time.
  lease_until timestamptz not null default now(),
  -- What the last attempt failed with.
  error       text,
  created_at  timestamptz not null default now(),
  primary key (queue, key)
) with (autovacuum_vacuum_scale_factor = 0.05);
create index jobs_due on jobs (queue, lease_until);
