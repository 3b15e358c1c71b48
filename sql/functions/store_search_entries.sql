-- Stores the search entries of messages, with marks for the members of their conversations. The caller must hold the
-- lock of lock_search_index. All arrays have the same length. p_words: the words of each message, separated by spaces
-- (src/modules/search/words.ts). A message keeps its existing marks. p_is_new: whether the messages are newer than all
-- indexed ones; otherwise they are older.
create or replace function store_search_entries(
  p_conversations uuid[], p_seqs bigint[], p_roles text[], p_ats timestamptz[], p_words text[], p_language regconfig,
  p_is_new boolean
)
returns void
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = on
set enable_mergejoin = off
-- The planner's row estimates are far too low, so each lookup by key is a subquery, which has only one possible plan.
set enable_nestloop = off
set jit = off
as $$
begin
  with items as materialized (
    select i.*, (
      select tsvector_to_array(e.words) from search_entries e where e.conversation_id = i.conversation and e.seq = i.seq
    ) as former_words
    from unnest(p_conversations, p_seqs, p_roles, p_ats, p_words)
      with ordinality as i (conversation, seq, role, at, text, n)
  ),
  member_marks as materialized (
    select p.conversation, m.user_id, search_mark('m', m.user_id, 0) as mark
    from (select distinct i.conversation from items i) p
    cross join lateral (
      select x.user_id from members x where x.conversation_id = p.conversation and x.search_scope > 0 offset 0
    ) m
  ),
  pairs as materialized (
    select i.n, d.user_id, (
      select f.mark from unnest(i.former_words) f (mark) where f.mark like rtrim(d.mark, '0') || '%' limit 1
    ) as mark
    from items i join member_marks d on d.conversation = i.conversation
  ),
  numbered as (
    select p.n, p.user_id, count(*) over (partition by p.user_id) as added, row_number() over (
      partition by p.user_id
      order by case when p_is_new then i.at end, case when not p_is_new then i.at end desc, p.n) - 1 as offset_in_batch
    from pairs p join items i on i.n = p.n where p.mark is null
  ),
  counted as materialized (
    insert into search_counts as c (user_id, next, before)
    select n.user_id, case when p_is_new then count(*) else 0 end, case when p_is_new then -1 else -1 - count(*) end
    from numbered n
    cross join lateral (select from users x where x.id = n.user_id offset 0) u
    group by n.user_id order by n.user_id
    on conflict (user_id) do update set
      next = c.next + case when p_is_new then excluded.next else 0 end,
      before = c.before + case when p_is_new then 0 else excluded.before + 1 end
    returning c.user_id, c.next, c.before
  ),
  marks as (
    select x.n, array_agg(x.mark) as marks from (
      select p.n, p.mark from pairs p where p.mark is not null
      union all
      select n.n, search_mark('m', n.user_id,
        case when p_is_new then c.next - n.added + n.offset_in_batch else c.before + n.added - n.offset_in_batch end)
      from numbered n join counted c on c.user_id = n.user_id
    ) x group by x.n
  )
  insert into search_entries as e (conversation_id, seq, role, at, words)
  select i.conversation, i.seq, i.role, i.at,
    array_to_tsvector(coalesce(k.marks, '{}')
      || array[search_mark('c', i.conversation, i.seq), search_role_mark(i.role), search_month_mark(i.at)])
    || message_words(p_language, i.text)
  from items i left join marks k on k.n = i.n
  order by i.n
  on conflict (conversation_id, seq) do update set words = excluded.words, role = excluded.role, at = excluded.at;
end
$$;

-- Flushes the index's pending list. Called at the end of a batch, because this costs half as much as indexing each
-- message separately, and because searches then never have to scan a long list.
create or replace function merge_search_entries() returns void
language sql as $$
  select gin_clean_pending_list('search_entries_words')
$$;

-- Returns the words unchanged, so that every name and every stop word matches exactly, and their stems in a language, at
-- the same positions, so that a phrase matches any form of its words. (`||` would put the stems after the words.)
create or replace function message_words(p_language regconfig, p_text text) returns tsvector
language sql immutable parallel safe as $$
  select case when p_language = 'pg_catalog.simple'::regconfig then to_tsvector('pg_catalog.simple', p_text)
    else (to_tsvector('pg_catalog.simple', p_text)::text || ' ' || to_tsvector(p_language, p_text)::text)::tsvector end
$$;

-- Acquires, until the transaction ends, the lock that every change of the index needs. It is acquired both to index
-- messages and to erase conversations, so that no entry of an erased conversation stays. The key is an arbitrary number
-- that no other lock in Parley uses. Without p_wait, returns false if another transaction has the lock.
create or replace function lock_search_index(p_wait boolean) returns boolean
language plpgsql as $$
begin
  if not p_wait then
    return pg_try_advisory_xact_lock(5206070016);
  end if;
  perform pg_advisory_xact_lock(5206070016);
  return true;
end
$$;
