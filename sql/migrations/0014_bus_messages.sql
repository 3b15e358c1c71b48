-- Messages between instances that NOTIFY does not reach, since a pooler stands before the database. They are deleted after
-- seconds, and nobody misses them after a crash.
create unlogged table bus_messages (
  id      bigint generated always as identity primary key,
  payload text not null,
  at      timestamptz not null default clock_timestamp()
);
