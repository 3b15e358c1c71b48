-- Adds rows that refer to the messages of large-data.sql, on the same connection.

-- Every fifth message of an ordinary conversation is a model's answer, and has a generation.
insert into generations (conversation_id, id, message_id, message_seq, requested_by, model, status, lease_until, fence,
  created_at, started_at, finished_at)
select pg_temp.conversation_id(c), pg_temp.v7(pg_temp.ms_of(i), 4, i), pg_temp.message_id(i), seq,
  pg_temp.user_id(case when seq % 2 = 0 then pg_temp.owner_of(c) else pg_temp.other_of(c) end), 'openai/gpt-5.2',
  'finished', null, 1, at, at, at
from (
  select c, seq, i, pg_temp.at(pg_temp.ms_of(i)) as at
  from (
    select c, seq, pg_temp.i_of(pg_temp.j_of(c, seq)) as i from generate_series(0, 299999) c, unnest(array[5, 10, 15]) seq
  ) x
) x order by i;

insert into events (conversation_id, seq, type, message_id, at)
select x.conversation_id, x.seq + 1, 'message.updated', x.id, x.created_at
from messages x where x.conversation_id = pg_temp.special_id(4) and x.seq % 10 = 9;
