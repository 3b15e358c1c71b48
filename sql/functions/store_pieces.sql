-- Appends the newest text of many answers in progress. p_pieces: an array of {conversation_id, id (of the generation),
-- fence, attempt, n, text, reasoning}; `text` or `reasoning` may be absent. A piece with n = 1 has the whole text so
-- far and starts a new attempt. A piece replaces all pieces with the same or a higher number, so a call whose result
-- was lost can be repeated. A piece never replaces a longer piece with the same number, so it does no harm if the lost
-- call is executed after its repetition.
--
-- Returns the generations whose piece was stored. The others have another owner or a later attempt, or are finished.
-- Without p_wait, locked generations are also skipped. Each generation stays locked until the commit, so a takeover or
-- the completion of the answer sees either all pieces of the call or none.
create or replace function store_pieces(p_pieces json, p_wait boolean) returns setof uuid
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  locked_ids uuid[];
begin
  if not p_wait then
    select array_agg(l.id) into locked_ids from (
      select g.id
      from json_to_recordset(p_pieces) as p (conversation_id uuid, id uuid)
      join generations g on g.conversation_id = p.conversation_id and g.id = p.id
      where g.status = 'running' for no key update of g skip locked
    ) l;
    if locked_ids is null then
      return;
    end if;
  end if;
  -- In the same order as when leases are renewed and answers are completed, to avoid deadlocks.
  select array_agg(l.id) into locked_ids from (
    select g.id
    from json_to_recordset(p_pieces)
      as p (conversation_id uuid, id uuid, fence integer, attempt integer, n integer, text text, reasoning text)
    join generations g on g.conversation_id = p.conversation_id and g.id = p.id
    where (p_wait or g.id = any (locked_ids)) and g.status = 'running' and g.fence = p.fence
      and (g.attempt = p.attempt or (p.n = 1 and g.attempt < p.attempt))
      and (p.n = 1 or not exists (
        select 1 from generation_pieces o
        where o.conversation_id = p.conversation_id and o.generation_id = p.id and o.n = p.n
          and octet_length(o.text) + octet_length(o.reasoning)
            > coalesce(octet_length(p.text), 0) + coalesce(octet_length(p.reasoning), 0)))
    order by g.id for no key update of g
  ) l;
  if locked_ids is null then
    return;
  end if;

  update generations g set attempt = p.attempt
  from json_to_recordset(p_pieces) as p (conversation_id uuid, id uuid, attempt integer, n integer)
  where p.n = 1 and p.id = any (locked_ids) and g.conversation_id = p.conversation_id and g.id = p.id
    and g.attempt <> p.attempt;
  -- Doesn't use `on conflict`, which writes an additional WAL record per row.
  delete from generation_pieces o
  using json_to_recordset(p_pieces) as p (conversation_id uuid, id uuid, n integer)
  where p.id = any (locked_ids) and o.conversation_id = p.conversation_id and o.generation_id = p.id and o.n >= p.n;
  return query
  insert into generation_pieces as o (conversation_id, generation_id, n, text, reasoning)
  select p.conversation_id, p.id, p.n, coalesce(p.text, ''), coalesce(p.reasoning, '')
  from json_to_recordset(p_pieces) as p (conversation_id uuid, id uuid, n integer, text text, reasoning text)
  where p.id = any (locked_ids)
  returning o.generation_id;
end
$$;
