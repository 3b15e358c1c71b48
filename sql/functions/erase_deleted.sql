-- Erases up to p_rows sequence numbers (each is a message or an event) of deleted conversations, oldest first. Small
-- conversations are erased completely, large ones in several calls. Returns whether there may be more, and where it
-- stopped: the conversation and the last erased sequence number. Pass both to the next call. Otherwise the next call
-- scans the dead rows again, which takes longer and longer while an old snapshot blocks vacuum.
--
-- Only one instance may call this at a time. It doesn't lock the conversations first, because users may still try to
-- send to them.
--
-- Sorting is disabled, so that Postgres uses the index that returns rows in order. Otherwise a plan made while a table
-- was nearly empty may use only the first column of a different index, and scan the whole conversation for each batch.
create or replace function erase_deleted(
  p_rows integer, p_conversation uuid, p_seq bigint, out has_more boolean, out conversation uuid, out seq bigint
)
language plpgsql
set enable_seqscan = off
set enable_sort = off
as $$
declare
  target record;
  from_seq bigint;
  until_seq bigint;
  rows_left bigint := p_rows;
  erased bigint;
begin
  has_more := false;
  -- Blocks additions to the search index.
  if exists (select from conversations c where c.deleted_at is not null) then
    perform lock_search_index(true);
  end if;
  for target in
    select c.id, c.last_seq from conversations c where c.deleted_at is not null order by c.deleted_at
  loop
    has_more := true;
    from_seq := case when target.id = p_conversation then p_seq else 0 end;
    until_seq := from_seq + rows_left;
    -- There are few of these rows, because only answers in progress have them.
    delete from generation_pieces p where p.conversation_id = target.id;
    delete from generation_thinking t where t.conversation_id = target.id;
    -- Each member may have rated each message.
    delete from feedback f where f.ctid = any (array(
      select x.ctid from feedback x
      where x.conversation_id = target.id and x.message_seq > from_seq and x.message_seq <= until_seq
      order by x.message_seq limit p_rows));
    get diagnostics erased = row_count;
    if erased = p_rows then
      conversation := target.id;
      seq := from_seq;
      return;
    end if;
    -- Stored responses to webhook deliveries may quote messages.
    update webhook_deliveries d set data = null, response_body = null where d.id = any (array(
      select x.id from webhook_deliveries x
      where x.conversation_id = target.id and (x.data is not null or x.response_body is not null)
      order by x.id limit p_rows));
    get diagnostics erased = row_count;
    if erased = p_rows then
      conversation := target.id;
      seq := from_seq;
      return;
    end if;
    delete from generations g where g.ctid = any (array(
      select x.ctid from generations x
      where x.conversation_id = target.id and x.message_seq > from_seq and x.message_seq <= until_seq
      order by x.message_seq));
    delete from events e where e.conversation_id = target.id and e.seq > from_seq and e.seq <= until_seq;
    delete from search_entries e where e.conversation_id = target.id and e.seq > from_seq and e.seq <= until_seq;
    with erased_messages as (
      delete from messages m where m.ctid = any (array(
        select x.ctid from messages x where x.conversation_id = target.id and x.seq > from_seq and x.seq <= until_seq
        order by x.seq))
      returning m.created_at
    )
    insert into analytics_stale_slots (slot) select distinct analytics_slot(g.created_at) from erased_messages g;
    if until_seq < target.last_seq then
      conversation := target.id;
      seq := until_seq;
      return;
    end if;
    delete from search_ranges r where r.conversation_id = target.id;
    delete from analytics_deleted_conversations d where d.conversation_id = target.id;
    -- Also deletes the conversation's summaries, of which there are few.
    delete from conversations c where c.id = target.id;
    rows_left := rows_left - (target.last_seq - from_seq) - 1;
    exit when rows_left <= 0;
  end loop;
end
$$;
