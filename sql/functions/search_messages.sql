-- Searches the messages that p_user can currently read, best first (docs/decisions/0074). Returns a page of p_rows
-- after the hit (p_after_rank, p_after_at, p_after_id), or the first page if these are null.
--
-- p_branches, p_kinds and p_terms have the same length. A message must match all terms of one branch. Kinds: `words` (a
-- word or a phrase), `prefix`, `not`. Terms consist of letters, digits and spaces, in to_tsquery's quoted syntax.
-- p_stale_conversations and p_stale_seqs: messages whose index entries are ignored. For each of them, p_texts has the
-- current words, or null if the message can no longer be found.
--
-- The index is searched for words together with marks (search_mark.sql), newest first and in growing steps, until there
-- are 500 hits to rank. So the cost depends on the messages that the caller can read, not on other users' messages.
-- Prefixes are not looked up in the index, because that would scan all users' words with that prefix. Phrases can't be
-- looked up, because the index doesn't store word positions. For both, candidate rows are compared one by one, up to a
-- limit.
create or replace function search_messages(
  p_user uuid, p_branches integer[], p_kinds text[], p_terms text[], p_language regconfig, p_conversation uuid, p_role text,
  p_from timestamptz, p_to timestamptz, p_stale_conversations uuid[], p_stale_seqs bigint[], p_roles text[],
  p_ats timestamptz[], p_texts text[], p_after_rank float8, p_after_at timestamptz, p_after_id uuid, p_rows integer
)
returns table (message_id uuid, conversation_id uuid, seq bigint, rank float8, at timestamptz)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = on
set enable_mergejoin = off
set jit = off
set client_min_messages = 'warning'
as $$
#variable_conflict use_column
declare
  hits_needed constant integer := 500;
  -- Maximum number of hits per step, newest first.
  step_hits_max constant integer := 1000;
  -- Maximum number of marks per step, and the maximum if many rows have to be compared.
  step_max constant integer := 8;
  compared_step_max constant integer := 2;
  -- After comparing this many rows, the search stops.
  compared_rows_max constant integer := 5000;
  full_query tsquery;
  index_query tsquery;
  rank_query tsquery;
  filters tsquery := ''::tsquery;
  marks text[];
  marks_query tsquery;
  position integer := 1;
  step integer := 1;
  hit_conversations uuid[] := '{}';
  hit_seqs bigint[] := '{}';
  hit_ranks real[] := '{}';
  found_conversations uuid[];
  found_seqs bigint[];
  found_ranks real[];
  compared_rows integer := 0;
  step_compared_rows integer;
begin
  select q.full_query, q.index_query, q.rank_query into full_query, index_query, rank_query
  from create_search_queries(p_branches, p_kinds, p_terms, p_language) q;
  if full_query is null then
    return;
  end if;
  if p_role is not null then
    filters := filters && search_marks_query(array[search_role_mark(p_role)]);
  end if;
  if p_from is not null and p_to is not null and p_to - p_from < interval '1000 days' then
    filters := filters && coalesce((
      select search_marks_query(array_agg(search_month_mark(x.at))) from generate_series(
        date_trunc('month', p_from at time zone 'utc') at time zone 'utc', p_to, interval '1 month') x (at)), filters);
  end if;
  filters := filters && index_query;
  marks := list_search_marks(p_user, p_conversation);

  while position <= coalesce(cardinality(marks), 0) loop
    marks_query := search_marks_query(marks[position : position + step - 1]);
    with compared as materialized (
      -- Doesn't return the words, because they would not fit in memory.
      select e.conversation_id, e.seq, e.at,
        -- Calls the operator's function directly, so that no index is used.
        case when ts_match_vq(e.words, full_query) and (p_conversation is null or e.conversation_id = p_conversation)
          and (p_role is null or e.role = p_role) and (p_from is null or e.at >= p_from) and (p_to is null or e.at < p_to)
        then ts_rank(e.words, rank_query, 32) end as rank
      from search_entries e where e.words @@ (marks_query && filters)
    ),
    readable as materialized (
      select c.conversation_id
      from (select distinct x.conversation_id from compared x where x.rank is not null) c
      cross join lateral (
        select from members m where m.conversation_id = c.conversation_id and m.user_id = p_user offset 0
      ) m
    ),
    newest as (
      select x.* from compared x
      where x.rank is not null and x.conversation_id in (select r.conversation_id from readable r)
      order by x.at desc limit step_hits_max
    )
    select array_agg(n.conversation_id), array_agg(n.seq), array_agg(n.rank), (select count(*) from compared)
    into found_conversations, found_seqs, found_ranks, step_compared_rows from newest n;
    if found_conversations is not null then
      hit_conversations := hit_conversations || found_conversations;
      hit_seqs := hit_seqs || found_seqs;
      hit_ranks := hit_ranks || found_ranks;
    end if;
    position := position + step;
    step := least(2 * step, case when step_compared_rows > 256 * step then compared_step_max else step_max end);
    compared_rows := compared_rows + step_compared_rows;
    exit when cardinality(hit_seqs) >= hits_needed or compared_rows >= compared_rows_max;
  end loop;

  return query
  with candidates as (
    select h.conversation_id, h.seq, h.rank
    from unnest(hit_conversations, hit_seqs, hit_ranks) as h (conversation_id, seq, rank)
    where not exists (
      select from unnest(p_stale_conversations, p_stale_seqs) as s (conversation_id, seq)
      where s.conversation_id = h.conversation_id and s.seq = h.seq
    )
    union
    select s.conversation_id, s.seq, ts_rank(s.words, rank_query, 32)
    from (
      select t.conversation_id, t.seq, message_words(p_language, t.text) as words
      from unnest(p_stale_conversations, p_stale_seqs, p_roles, p_ats, p_texts) as t (conversation_id, seq, role, at, text)
      where t.text is not null and (p_conversation is null or t.conversation_id = p_conversation)
        and (p_role is null or t.role = p_role) and (p_from is null or t.at >= p_from) and (p_to is null or t.at < p_to)
      offset 0
    ) s
    where s.words @@ full_query
  ),
  current as (
    select m.id, k.conversation_id, k.seq, k.rank::float8 as rank, date_trunc('milliseconds', m.created_at) as at
    from candidates k
    cross join lateral (
      select x.id, x.created_at, x.deleted_at, x.status from messages x
      where x.conversation_id = k.conversation_id and x.seq = k.seq offset 0
    ) m
    where m.deleted_at is null and m.status <> 'streaming'
  )
  select c.id, c.conversation_id, c.seq, c.rank, c.at from current c
  where p_after_id is null or (c.rank, c.at, c.id) < (p_after_rank, p_after_at, p_after_id)
  order by c.rank desc, c.at desc, c.id desc limit p_rows;
end
$$;

-- Returns the query in three forms: the full condition, a looser one for the index, and the words that determine the
-- rank. A word matches unchanged or by its stem. Returns nulls if there is nothing to search for.
create or replace function create_search_queries(
  p_branches integer[], p_kinds text[], p_terms text[], p_language regconfig,
  out full_query tsquery, out index_query tsquery, out rank_query tsquery
)
language plpgsql stable
-- Suppresses Postgres' notice about stop words, which have no stem.
set client_min_messages = 'warning'
as $$
declare
  term record;
  n integer;
  exact tsquery;
  phrase tsquery;
  all_words tsquery;
  branch_full tsquery;
  branch_index tsquery;
  is_indexed boolean := true;
begin
  index_query := ''::tsquery;
  rank_query := ''::tsquery;
  foreach n in array (select array_agg(distinct b order by b) from unnest(p_branches) b) loop
    branch_full := ''::tsquery;
    branch_index := ''::tsquery;
    for term in
      select t.kind, t.text from unnest(p_branches, p_kinds, p_terms) as t (branch, kind, text)
      where t.branch = n order by t.kind = 'not'
    loop
      if term.kind = 'prefix' then
        exact := to_tsquery('pg_catalog.simple', term.text || ':*');
        branch_full := branch_full && exact;
        -- The exact word ranks higher than longer words.
        rank_query := rank_query || exact || to_tsquery('pg_catalog.simple', term.text);
        continue;
      end if;
      select q.phrase, q.all_words into phrase, all_words from create_phrase_queries(term.text, p_language) q;
      continue when numnode(phrase) = 0;
      if term.kind = 'words' then
        branch_full := branch_full && phrase;
        branch_index := branch_index && all_words;
        rank_query := rank_query || phrase;
      elsif numnode(branch_full) > 0 then
        branch_full := branch_full && !!phrase;
      end if;
    end loop;
    continue when numnode(branch_full) = 0;
    full_query := case when full_query is null then branch_full else full_query || branch_full end;
    is_indexed := is_indexed and numnode(branch_index) > 0;
    index_query := index_query || branch_index;
  end loop;
  -- If one alternative can't be looked up in the index, the index can't narrow the whole query.
  if not is_indexed then
    index_query := ''::tsquery;
  end if;
end
$$;

-- Returns two queries for a term's words, each unchanged or by its stem: adjacent to each other, and anywhere.
create or replace function create_phrase_queries(
  p_term text, p_language regconfig, out phrase tsquery, out all_words tsquery
)
language plpgsql stable as $$
declare
  word text;
  exact tsquery;
  stem tsquery;
begin
  phrase := ''::tsquery;
  all_words := ''::tsquery;
  foreach word in array string_to_array(btrim(p_term, ''''), ' ') loop
    exact := phraseto_tsquery('pg_catalog.simple', word);
    stem := phraseto_tsquery(p_language, word);
    if numnode(stem) = 0 or stem = exact then
      phrase := phrase <-> exact;
      all_words := all_words && plainto_tsquery('pg_catalog.simple', word);
    else
      phrase := phrase <-> (exact || stem);
      all_words := all_words && (plainto_tsquery('pg_catalog.simple', word) || plainto_tsquery(p_language, word));
    end if;
  end loop;
end
$$;

-- Returns the marks of the messages that p_user can read, newest first. With p_conversation, returns only the marks of
-- that conversation. Otherwise returns the user's own marks, followed by the marks of a limited number of conversations
-- that are searched separately.
create or replace function list_search_marks(p_user uuid, p_conversation uuid) returns text[]
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  memberships_max constant integer := 500;
  conversations_max constant integer := 100;
  marks_max constant integer := 256;
  marks text[];
begin
  if p_conversation is not null then
    return (
      select array_agg(search_mark('c', c.id, n << 10) order by n desc)
      from conversations c cross join lateral generate_series(0, c.last_seq >> 10) n
      where c.id = p_conversation
        and exists (select from members m where m.conversation_id = p_conversation and m.user_id = p_user)
    );
  end if;
  select array_agg(search_mark('m', p_user, n << 10) order by n desc) into marks
  from search_counts c cross join lateral generate_series((c.before + 1) >> 10, (c.next - 1) >> 10) n
  where c.user_id = p_user;
  return marks || (
    select array_agg(x.mark) from (
      select search_mark('c', a.id, n << 10) as mark
      from (
        select c.id, c.last_seq, c.updated_at
        from (
          select m.conversation_id from members m where m.user_id = p_user and m.search_scope < 2
          order by m.conversation_id desc limit memberships_max
        ) m
        join conversations c on c.id = m.conversation_id
        where c.last_seq > 0
        order by c.updated_at desc limit conversations_max
      ) a
      cross join lateral generate_series(0, a.last_seq >> 10) n
      order by a.updated_at desc, n desc limit marks_max
    ) x
  );
end
$$;

-- Lists messages in p_user's conversations whose index entries are outdated: the newest ones in the last p_rows rows of
-- the outbox, at most p_messages messages and p_chars characters. `content` is null if the message was deleted.
create or replace function list_unindexed(p_user uuid, p_rows integer, p_messages integer, p_chars integer)
returns table (conversation_id uuid, seq bigint, role text, at timestamptz, content text)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  chars_max constant bigint := 2000000;
begin
  return query
  with changed_messages as materialized (
    select e.conversation, e.message, max(o.id) as id
    from (select x.id, x.conversations, x.messages from search_outbox x order by x.id desc limit p_rows) o
    cross join lateral unnest(o.conversations, o.messages) as e (conversation, message)
    where e.message is not null
    group by e.conversation, e.message
  ),
  own_conversations as materialized (
    select c.conversation from (select distinct t.conversation from changed_messages t) c
    where exists (select from members m where m.conversation_id = c.conversation and m.user_id = p_user)
  )
  select x.conversation_id, x.seq, x.role, x.created_at, x.content
  from (
    select m.*, sum(coalesce(length(m.content), 0)) over (order by t.id desc, m.seq desc) as chars
    from (
      select t.* from changed_messages t where t.conversation in (select o.conversation from own_conversations o)
      order by t.id desc limit p_messages
    ) t
    cross join lateral (
      select x.conversation_id, x.seq, x.role, x.created_at,
        case when x.status <> 'streaming' and x.deleted_at is null then left(x.content, p_chars) end as content
      from messages x
      where x.id = t.message and x.conversation_id = t.conversation limit 1
    ) m
  ) x
  where x.chars <= chars_max;
end
$$;
