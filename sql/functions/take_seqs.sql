-- Takes the next p_counts[i] numbers of conversation p_conversations[i], and sets its `updated_at`. The only writer of
-- `last_seq`. It locks the conversations in id order, to avoid deadlocks; the locks last until the transaction ends, so
-- numbers become visible in their order. Name each conversation once. Several must exist: lock them before.
--
-- first_seqs[i]: the first number taken; null if the only conversation does not exist, or is deleted. taken_at: read once, after all locks
-- were acquired, so that times rise with the numbers. In milliseconds, as clients see it, so that it is the same in every
-- column that follows it.
create or replace function take_seqs(
  p_conversations uuid[], p_counts integer[], out first_seqs bigint[], out taken_at timestamptz
)
language plpgsql
-- Planned once for each connection, for tables that grow from nothing to millions: no plan that only suits small tables.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  if cardinality(p_conversations) = 1 then
    perform 1 from conversations c where c.id = p_conversations[1] for no key update;
    taken_at := date_trunc('milliseconds', clock_timestamp());
    update conversations c set last_seq = c.last_seq + p_counts[1], updated_at = taken_at where c.id = p_conversations[1]
      and c.deleted_at is null
    returning array[c.last_seq - p_counts[1] + 1] into first_seqs;
    return;
  end if;

  perform 1 from conversations c where c.id = any (p_conversations) order by c.id for no key update;
  taken_at := date_trunc('milliseconds', clock_timestamp());
  with taken as (
    update conversations c set last_seq = c.last_seq + t.count, updated_at = taken_at
    from unnest(p_conversations, p_counts) with ordinality as t (id, count, position)
    where c.id = t.id and c.deleted_at is null
    returning t.position, c.last_seq - t.count + 1 as first_seq
  )
  select array_agg(taken.first_seq order by taken.position) into first_seqs from taken;
  if cardinality(first_seqs) is distinct from cardinality(p_conversations) then
    raise exception 'a conversation does not exist';
  end if;
end
$$;
