-- Returns messages to index, with the first p_chars characters of their text. The caller must hold the lock taken
-- by lock_search_index. Deletes the messages' queue entries. If a message can no longer be found, because it was deleted or
-- emptied, removes it from the index. `is_new`: whether the message was sent or changed recently.
--
-- Returns up to p_messages messages from the oldest outbox entries or, if there are none, from the queued ranges.
create or replace function take_search_work(p_messages integer, p_chars integer)
returns table (conversation_id uuid, seq bigint, role text, at timestamptz, content text, is_new boolean)
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  conversations uuid[];
  seqs bigint[];
  has_new_messages boolean;
begin
  with waiting_rows as materialized (
    select x.id, sum(cardinality(x.messages)) over (order by x.id) - cardinality(x.messages) as before
    from (select o.id, o.messages from search_outbox o order by o.id limit p_messages) x
  ),
  outbox_rows as (
    delete from search_outbox o
    where o.id = any (array(select w.id from waiting_rows w where w.before < p_messages))
    returning o.conversations, o.messages
  ),
  changed_messages as materialized (
    select distinct e.conversation, e.message
    from outbox_rows t cross join lateral unnest(t.conversations, t.messages) as e (conversation, message)
    where e.message is not null
  )
  select array_agg(t.conversation), array_agg(m.seq), (select count(*) from outbox_rows) > 0
  into conversations, seqs, has_new_messages
  from changed_messages t
  cross join lateral (
    select x.seq from messages x where x.id = t.message and x.conversation_id = t.conversation limit 1
  ) m;
  if not has_new_messages then
    select x.conversations, x.seqs into conversations, seqs from take_search_ranges(p_messages) x;
  end if;

  delete from search_entries e
  using unnest(conversations, seqs) as i (conversation, seq)
  where e.conversation_id = i.conversation and e.seq = i.seq and exists (
    select from messages m
    where m.conversation_id = i.conversation and m.seq = i.seq and (m.deleted_at is not null or m.content = '')
  );
  return query
  select m.conversation_id, m.seq, m.role, m.created_at, left(m.content, p_chars), has_new_messages
  from unnest(conversations, seqs) as i (conversation, seq)
  cross join lateral (
    select x.conversation_id, x.seq, x.role, x.created_at, x.content, x.status, x.deleted_at from messages x
    where x.conversation_id = i.conversation and x.seq = i.seq offset 0
  ) m
  cross join lateral (select x.deleted_at from conversations x where x.id = i.conversation offset 0) c
  where m.status <> 'streaming' and m.content <> '' and m.deleted_at is null and c.deleted_at is null
  order by m.created_at, m.conversation_id, m.seq;
end
$$;

-- Removes up to p_messages sequence numbers from the queued ranges, the highest of each range first. When nothing is
-- left of a range, its messages have the member's marks, so the member's searches use these marks from then on
-- (search_scope 2).
create or replace function take_search_ranges(p_messages integer, out conversations uuid[], out seqs bigint[])
language plpgsql
set plan_cache_mode = force_generic_plan
as $$
declare
  range record;
  rows_left bigint := p_messages;
  from_seq bigint;
begin
  conversations := '{}';
  seqs := '{}';
  for range in select * from search_ranges r order by r.id limit 500 loop
    exit when rows_left <= 0;
    from_seq := greatest(range.first_seq, range.until_seq - rows_left + 1);
    select conversations || array_agg(m.conversation_id), seqs || array_agg(m.seq) into conversations, seqs
    from messages m
    where m.conversation_id = range.conversation_id and m.seq between from_seq and range.until_seq;
    if from_seq > range.first_seq then
      update search_ranges r set until_seq = from_seq - 1 where r.id = range.id;
    else
      delete from search_ranges r where r.id = range.id;
      update members m set search_scope = 2
      where m.conversation_id = range.conversation_id and m.search_scope = 1
        and (m.user_id = range.user_id or range.is_backfill and not exists (
          select from search_ranges r where r.conversation_id = m.conversation_id and r.user_id = m.user_id));
    end if;
    -- A short range counts as 5 numbers, because each range has a fixed cost.
    rows_left := rows_left - greatest(range.until_seq - from_seq + 1, 5);
  end loop;
  -- Distinct, because a message may be in several ranges.
  select array_agg(x.conversation), array_agg(x.seq) into conversations, seqs
  from (select distinct t.conversation, t.seq from unnest(conversations, seqs) as t (conversation, seq)) x;
end
$$;

-- Queues all messages of the next p_conversations conversations that predate the index, newest conversation first.
-- Returns whether there may be more.
create or replace function add_search_backfill(p_conversations integer) returns boolean
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_sort = on
as $$
declare
  ids uuid[];
begin
  select array_agg(x.id) into ids from (
    select c.id from conversations c
    where c.id < (select s.before_id from search_state s) and c.deleted_at is null
    order by c.id desc limit p_conversations
  ) x;
  update search_state set before_id = ids[cardinality(ids)];
  if ids is null then
    return false;
  end if;
  update members m set search_scope = 1
  where m.conversation_id = any (ids) and m.search_scope = 0 and (
    select count(*) from (select from members o where o.conversation_id = m.conversation_id limit 17) x) <= 16;
  insert into search_ranges (conversation_id, first_seq, until_seq, is_backfill)
  select c.id, 1, c.last_seq, true
  from unnest(ids) with ordinality as i (id, n) join conversations c on c.id = i.id
  order by i.n;
  return true;
end
$$;

-- Starts rebuilding the index in the background if it was never built, or was built for another language. Existing
-- entries stay until they are replaced.
create or replace function set_search_language(p_language text) returns boolean
language sql as $$
  update search_state set language = p_language, before_id = 'ffffffff-ffff-ffff-ffff-ffffffffffff'
  where language <> p_language
  returning true
$$;
