-- Deletes up to p_rows rows of each table of the conversation that was deleted first, and at the end the conversation itself.
-- Returns false when there is nothing to do. Several instances share the work: each takes a conversation that is not locked.
--
-- By ranges of numbers, without lists: such a plan is the same for tables of any size.
create or replace function erase_deleted_conversation(p_rows integer) returns boolean
language plpgsql
set enable_seqscan = off
as $$
declare
  target uuid;
  until_seq bigint;
  has_more boolean := false;
begin
  select c.id into target from conversations c where c.deleted_at is not null
  order by c.deleted_at limit 1 for update skip locked;
  if not found then
    return false;
  end if;

  -- Of answers that were in progress: never many.
  delete from generation_pieces p where p.conversation_id = target;

  select max(o.message_seq) into until_seq from (
    select g.message_seq from generations g where g.conversation_id = target order by g.message_seq limit p_rows) o;
  if until_seq is not null then
    delete from generations g where g.conversation_id = target and g.message_seq <= until_seq;
    has_more := true;
  end if;

  select max(o.seq) into until_seq from (
    select e.seq from events e where e.conversation_id = target order by e.seq limit p_rows) o;
  if until_seq is not null then
    delete from events e where e.conversation_id = target and e.seq <= until_seq;
    has_more := true;
  end if;

  select max(o.seq) into until_seq from (
    select m.seq from messages m where m.conversation_id = target order by m.seq limit p_rows) o;
  if until_seq is not null then
    delete from messages m where m.conversation_id = target and m.seq <= until_seq;
    has_more := true;
  end if;

  if not has_more then
    -- Summaries are few, and go with it.
    delete from conversations c where c.id = target;
  end if;
  return true;
end
$$;
