-- Functions that fill the database for the benchmark `attacks`. They need a superuser.
create schema bench;

create function bench.id(ms bigint, seed text) returns uuid language sql immutable as $$
  select (lpad(to_hex(ms), 12, '0') || '7' || substr(md5(seed), 1, 3) || '8' || substr(md5(seed), 4, 15))::uuid
$$;

-- Adds members without passwords to a conversation.
create function bench.fill_members(p_conversation uuid, p_count integer) returns void language sql as $$
  with inserted_users as (
    insert into users (id, email, email_key, display_name)
    select bench.id(1767225600000 + n, p_conversation::text || n), x, x, 'Person ' || n
    from (select n, n || '-' || p_conversation || '@example.com' as x from generate_series(1, p_count) n) u
    returning id
  )
  insert into members (conversation_id, user_id, role) select p_conversation, id, 'member' from inserted_users
$$;

-- Creates a conversation whose messages all have the same author, and are unread by another member.
create function bench.fill_conversation(p_id uuid, p_author uuid, p_member uuid, p_count integer) returns void
language sql as $$
  insert into conversations (id, title, kind, reply_mode, titled_by, last_seq)
  values (p_id, 'Bench', 'group', 'never', 'person', p_count);
  insert into members (conversation_id, user_id, role)
  select p_id, p_author, 'owner' union all select p_id, p_member, 'member' where p_member is not null;
  insert into messages (conversation_id, seq, id, role, author_id, content)
  select p_id, n, bench.id((extract(epoch from now()) * 1000)::bigint - 3600000 + n * 100, p_id::text || n), 'user', p_author,
    'Message ' || n || ': ' || repeat('the harbour was quiet; ', 1 + n % 8)
  from generate_series(1, p_count) n
$$;
