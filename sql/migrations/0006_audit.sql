-- Security-relevant events of accounts, keys and rights. Append-only (sql/functions/refuse_audit_change.sql): rows never
-- change, and only the retention job deletes old ones.

create table audit_events (
  id            uuid primary key,
  action        text not null,
  -- Without foreign keys: a row outlives what it is about. It holds ids only, never names or addresses of people.
  actor_id      uuid,
  credential_id uuid,
  target_type   text,
  target_id     uuid,
  ip_address    text,
  details       jsonb not null default '{}',
  at            timestamptz not null default now()
);
create index audit_events_actor on audit_events (actor_id, id);
create index audit_events_target on audit_events (target_id, id);
create index audit_events_at on audit_events (at);
create index audit_events_action on audit_events (action, id);
