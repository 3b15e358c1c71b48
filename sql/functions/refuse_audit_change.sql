-- Keeps the audit log append-only. A transaction can enable one of two exceptions: the retention job deletes old rows,
-- and user deletion removes IP addresses and webhook hosts.
create or replace function refuse_audit_change() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' and current_setting('parley.audit_retention', true) = 'on' then
    return old;
  end if;
  if tg_op = 'UPDATE' and current_setting('parley.audit_erasure', true) = 'on' and new.ip_address is null
    and new.details in (old.details, old.details - 'host')
    and to_jsonb(new) - '{ip_address,details}'::text[] = to_jsonb(old) - '{ip_address,details}'::text[] then
    return new;
  end if;
  raise exception 'audit events are append-only';
end $$;
create or replace trigger audit_events_append_only before update or delete on audit_events
  for each row execute function refuse_audit_change();
create or replace trigger audit_events_keep before truncate on audit_events
  for each statement execute function refuse_audit_change();
