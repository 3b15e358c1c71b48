-- The data of the benchmark `large`: 300,000 users and 5,000,000 messages in 300,004 conversations. Each row is computed
-- from a number: message `i` from 1 to 5,000,000 in chronological order, conversation `c`, and user `n`. Run it on one
-- connection, as a superuser.

-- Disables foreign keys and triggers, which these rows don't need.
set session_replication_role = replica;
set synchronous_commit = off;

create function pg_temp.v7(ms bigint, kind integer, n bigint) returns uuid language sql immutable as $$
  select (lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(kind), 3, '0') || '8' || lpad(to_hex(n), 15, '0'))::uuid
$$;
-- There is a message every 5.184 s, for 300 days from 2026-01-01.
create function pg_temp.ms_of(i bigint) returns bigint language sql immutable as $$ select 1767225600000 + i * 5184 $$;
create function pg_temp.at(ms bigint) returns timestamptz language sql immutable as $$ select to_timestamp(ms / 1000.0) $$;
create function pg_temp.message_id(i bigint) returns uuid language sql immutable as $$
  select pg_temp.v7(pg_temp.ms_of(i), 1, i)
$$;
-- Users are registered before the first message. Users 1 to 8 are the callers (large-data.ts).
create function pg_temp.user_id(n bigint) returns uuid language sql immutable as $$
  select pg_temp.v7(1767225600000 + (n - 300000) * 1000, 3, n)
$$;

-- Every 25th message belongs to a special conversation (number `k` of 200,000). The others are ordinary (number `j` of
-- 4,800,000). The 16 messages of an ordinary conversation are interleaved with those of 999 others, so that they are
-- spread over many pages.
create function pg_temp.i_of(j bigint) returns bigint language sql immutable as $$ select j + 1 + j / 24 $$;
create function pg_temp.j_of(c bigint, seq bigint) returns bigint language sql immutable as $$
  select c / 1000 * 16000 + (seq - 1) * 1000 + c % 1000
$$;
create function pg_temp.conversation_id(c bigint) returns uuid language sql immutable as $$
  select pg_temp.v7(pg_temp.ms_of(pg_temp.i_of(pg_temp.j_of(c, 1))), 2, c)
$$;
-- The special conversations: 1 has only messages by one member, 2 has a branch, 3 has 5,000 members, and 4 has other
-- events between its messages.
create function pg_temp.special_id(s bigint) returns uuid language sql immutable as $$
  select pg_temp.v7(1767225600000, 5, s)
$$;
create function pg_temp.owner_of(c bigint) returns bigint language sql immutable as $$
  select case when c in (7, 150007) then 4 else 9 + c * 7919 % 299991 end
$$;
create function pg_temp.other_of(c bigint) returns bigint language sql immutable as $$
  select 9 + (c * 7919 + 104729) % 299991
$$;
create function pg_temp.text_of(i bigint) returns text language sql immutable as $$
  select 'Message ' || i || ': ' || left('the harbour was quiet when the first boats came in, and nobody asked where the '
    || 'others had gone; the lamps burned on until the morning light made them look pale and small', 20 + (i * 37 % 160)::integer)
$$;

insert into users (id, email, email_key, display_name, role, password_hash, created_at, updated_at)
select pg_temp.user_id(n), email, email, 'Person ' || n, case when n = 8 then 'admin' else 'user' end,
  case when n <= 8 then :'password_hash' end, at, at
from (
  select n, case when n <= 8 then 'caller-' else 'person-' end || n || '@example.com' as email,
    pg_temp.at(1767225600000 + (n - 300000) * 1000) as at
  from generate_series(1, 300000) n
) u order by n;

insert into conversations (id, title, kind, reply_mode, titled_by, last_seq, created_at, updated_at)
select pg_temp.conversation_id(c), 'Conversation ' || c, 'group', 'never', 'person', 16,
  pg_temp.at(pg_temp.ms_of(pg_temp.i_of(pg_temp.j_of(c, 1)))), pg_temp.at(pg_temp.ms_of(pg_temp.i_of(pg_temp.j_of(c, 16))))
from generate_series(0, 299999) c order by c;

insert into conversations (id, title, kind, reply_mode, titled_by, last_seq, created_at, updated_at)
select pg_temp.special_id(s), 'Special ' || s, 'group', 'never', 'person', last_seq, pg_temp.at(1767225600000),
  pg_temp.at(pg_temp.ms_of(last_i))
from (values (1, 100000, 4999975), (2, 90000, 4999950), (3, 5000, 5000000), (4, 5555, 4999500)) x (s, last_seq, last_i);

-- Each conversation has an owner who has read everything, and a member who has read half of it. Callers 2 and 3 are also
-- members of many conversations.
insert into members (conversation_id, user_id, role, last_read_seq, joined_at)
select pg_temp.conversation_id(c), pg_temp.user_id(m.n), m.role, m.last_read_seq,
  pg_temp.at(pg_temp.ms_of(pg_temp.i_of(pg_temp.j_of(c, 1))))
from generate_series(0, 299999) c, lateral (
  select pg_temp.owner_of(c), 'owner', 16
  union all select pg_temp.other_of(c), 'member', 8
  union all select 2, 'member', 8 where c % 150 = 0
  union all select 3, 'member', 8 where c % 15 = 0
) m (n, role, last_read_seq);

insert into members (conversation_id, user_id, role, last_read_seq, joined_at)
select pg_temp.special_id(s), pg_temp.user_id(n), role, last_read_seq, pg_temp.at(1767225600000)
from (
  values (1, 1, 'owner', 0), (1, 9, 'member', 0), (2, 5, 'owner', 90000), (2, 10, 'member', 0), (3, 7, 'owner', 5000),
    (4, 11, 'owner', 5555), (4, 6, 'member', 5055)
  union all select 3, n, 'member', 0 from generate_series(9, 5007) n
) m (s, n, role, last_read_seq);

-- Inserts messages `p_from` to `p_until` in chronological order.
create function pg_temp.fill_messages(p_from bigint, p_until bigint) returns void language sql as $$
  with ordinary as (
    select i, c, seq, case when seq % 5 = 0 then null when seq % 2 = 1 or c in (7, 150007) then pg_temp.owner_of(c)
      else pg_temp.other_of(c) end as author,
      case when seq % 5 = 0 then pg_temp.message_id(pg_temp.i_of(pg_temp.j_of(c, seq - 1))) end as parent
    from (
      select i, j / 16000 * 1000 + j % 1000 as c, j % 16000 / 1000 + 1 as seq
      from (select i, i - i / 25 - 1 as j from generate_series(p_from, p_until) i where i % 25 <> 0) x
    ) x
  ), special as (
    select i, s, seq, case s when 1 then 1 when 2 then case when seq % 90 = 0 then 5 else 10 end when 3 then 9 + seq % 4999
      else 11 end as author,
      -- Every 90th message replies to the previous 90th message, which results in a branch of 1,000 messages.
      case when s = 2 and seq % 90 = 0 and seq > 90 then pg_temp.message_id(i - 5000) end as parent
    from (
      select i, case when k % 2 = 1 then 1 when m % 20 = 0 then 3 when m % 20 = 10 then 4 else 2 end as s,
        case when k % 2 = 1 then (k + 1) / 2 when m % 20 = 0 then m / 20
          -- Every tenth sequence number belongs to another event.
          when m % 20 = 10 then (m + 10) / 20 + ((m + 10) / 20 - 1) / 9
          else m - m / 20 - (m + 10) / 20 end as seq
      from (
        select i, i / 25 as k, i / 50 as m from generate_series(p_from, p_until) i where i % 25 = 0
      ) x
    ) x
  )
  insert into messages (conversation_id, seq, id, role, author_id, content, model, finish_reason, input_tokens,
    output_tokens, parent_id, client_message_id, created_at, updated_at)
  select conversation, seq, pg_temp.message_id(i), case when author is null then 'assistant' else 'user' end,
    pg_temp.user_id(author), pg_temp.text_of(i), case when author is null then 'openai/gpt-5.2' end,
    case when author is null then 'stop' end, case when author is null then 400 end, case when author is null then 90 end,
    parent, case when author is not null and i % 10 > 0 then 'client-' || i end, pg_temp.at(pg_temp.ms_of(i)),
    pg_temp.at(pg_temp.ms_of(i))
  from (
    select i, pg_temp.conversation_id(c) as conversation, seq, author, parent from ordinary
    union all select i, pg_temp.special_id(s), seq, author, parent from special
  ) x order by i
$$;
