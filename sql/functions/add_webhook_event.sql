-- Emits a webhook event that isn't in a conversation's log, in the transaction of the change. Administrators receive
-- it, and so do p_user (if not null) and the members of p_conversation (if not null). If p_data is null, the current
-- state of the user or the conversation is sent.
create or replace function add_webhook_event(p_type text, p_user uuid, p_conversation uuid, p_data jsonb)
returns void
language plpgsql
as $$
begin
  if exists (
    select from webhooks w where w.disabled_at is null and (w.events @> array[p_type] or w.events = '{*}')
  ) then
    insert into webhook_outbox (conversations, seqs, types, users, data, at)
    values (array[p_conversation], array[null::bigint], array[p_type], array[p_user], array[p_data],
      date_trunc('milliseconds', clock_timestamp()));
  end if;
end
$$;
