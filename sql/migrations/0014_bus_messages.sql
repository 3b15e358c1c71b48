-- Messages between instances that NOTIFY does not reach because of a pooler. They are deleted after seconds, and may be lost
-- in a crash.
create unlogged table bus_messages (
  id      bigint generated always as identity primary key,
  payload text not null,
  at      timestamptz not null default clock_timestamp()
);
