-- What happened to accounts, keys and rights: who, what, to whom, from where. Append-only: rows are never changed, and
-- only the retention job takes old ones away, which says so by a setting of its transaction.
create table audit_events (
  id            uuid primary key,
  action        text not null,
  -- No references: a row outlives whom it is about. Names and addresses of people are not in here, only ids.
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

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('parley.audit_retention', true) = 'on' then
    return old;
  end if;
  raise exception 'audit events are append-only';
end $$;
create trigger audit_events_append_only before update or delete on audit_events
  for each row execute function refuse_audit_change();
create trigger audit_events_keep before truncate on audit_events
  for each statement execute function refuse_audit_change();
