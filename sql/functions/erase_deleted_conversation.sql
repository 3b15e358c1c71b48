-- Deletes up to p_rows rows of each table of the conversation that was deleted first, and at the end the conversation itself.
-- Returns false when there is nothing to do. Several instances share the work: each takes a conversation that is not locked.
create or replace function erase_deleted_conversation(p_rows integer) returns boolean
language plpgsql
set enable_seqscan = off
as $$
declare
  target uuid;
  last_seq bigint;
  erased integer;
  total integer := 0;
begin
  select c.id into target from conversations c where c.deleted_at is not null
  order by c.deleted_at limit 1 for update skip locked;
  if not found then
    return false;
  end if;

  -- Pieces have no reference to their generation, and come first.
  delete from generation_pieces p where p.conversation_id = target and (p.generation_id, p.n) in (
    select o.generation_id, o.n from generation_pieces o where o.conversation_id = target
    order by o.generation_id, o.n limit p_rows);
  get diagnostics erased = row_count;
  total := total + erased;

  delete from generations g where g.conversation_id = target and g.id in (
    select o.id from generations o where o.conversation_id = target order by o.id limit p_rows);
  get diagnostics erased = row_count;
  total := total + erased;

  -- By ranges of numbers, which need no list.
  select max(o.seq) into last_seq from (
    select e.seq from events e where e.conversation_id = target order by e.seq limit p_rows) o;
  delete from events e where e.conversation_id = target and e.seq <= last_seq;
  get diagnostics erased = row_count;
  total := total + erased;

  select max(o.seq) into last_seq from (
    select m.seq from messages m where m.conversation_id = target order by m.seq limit p_rows) o;
  delete from messages m where m.conversation_id = target and m.seq <= last_seq;
  get diagnostics erased = row_count;
  total := total + erased;

  if total = 0 then
    -- Summaries are few, and go with it.
    delete from conversations c where c.id = target;
  end if;
  return true;
end
$$;
