-- Fills the search index with the entries that Parley would add. Does nothing if the schema is too old to have an index.
-- The script reads the messages once without sorting, so it numbers a member's messages conversation by conversation. All
-- messages are ASCII.
do $$
begin
  if to_regclass('search_entries') is null then
    return;
  end if;
  set local maintenance_work_mem = '1GB';
  set local work_mem = '256MB';
  set local max_parallel_workers_per_gather = 0;
  drop index search_entries_words;
  update members m set search_scope = 2 where m.conversation_id in (
    select conversation_id from members group by conversation_id having count(*) <= 16);
  create temporary table search_numbers on commit drop as
    select m.conversation_id, m.user_id, c.message_count,
      sum(c.message_count) over (partition by m.user_id order by c.id) - c.message_count as first
    from members m join conversations c on c.id = m.conversation_id where m.search_scope = 2;
  insert into search_counts (user_id, next) select user_id, sum(message_count) from search_numbers group by user_id;
  insert into search_entries (conversation_id, seq, role, at, words)
  select x.conversation_id, x.seq, x.role, x.created_at,
    array_to_tsvector(coalesce((
        select array_agg(search_mark('m', n.user_id, n.first + least(x.seq, k.message_count) - 1))
        from unnest(k.users, k.firsts) as n (user_id, first)), '{}')
      || array[search_mark('c', x.conversation_id, x.seq), search_role_mark(x.role), search_month_mark(x.created_at)])
    || message_words('pg_catalog.english', translate(x.content, ':,;', '   '))
  from messages x
  left join (
    select s.conversation_id, min(s.message_count) as message_count, array_agg(s.user_id) as users,
      array_agg(s.first::bigint) as firsts
    from search_numbers s group by s.conversation_id
  ) k on k.conversation_id = x.conversation_id;
  create index search_entries_words on search_entries using gin (words) with (gin_pending_list_limit = 1024);
  update search_state set language = 'pg_catalog.english', before_id = null;
end
$$;
