-- Allocates the next p_counts[i] sequence numbers of conversation p_conversations[i], and sets its `updated_at`.
-- p_messages[i] of these numbers are for messages. No other code writes `last_seq`, `message_count` or `listed_at`,
-- except that import_messages sets the `listed_at` of new conversations. The conversations are locked in id order, to
-- avoid deadlocks. They stay locked until the transaction ends, so sequence numbers become visible in order. Pass each
-- conversation once. If you pass several, all must exist, so lock them first.
--
-- first_seqs[i]: the first allocated number. Null if only one conversation was passed and it doesn't exist or is deleted.
-- first_counts[i]: the number of earlier messages. taken_at: the time, read once after all locks are acquired, so that
-- times increase with sequence numbers. It is rounded to milliseconds, so that every column that stores it has exactly
-- the value that API responses contain.
create or replace function take_positions(
  p_conversations uuid[], p_counts integer[], p_messages integer[],
  out first_seqs bigint[], out first_counts bigint[], out taken_at timestamptz
)
language plpgsql
-- A cached plan must suit tables that grow from zero to millions of rows, so plan types that only suit small tables are
-- disabled.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  -- Conversations whose last activity is more than a minute ago, so they must be moved in their members' lists.
  moved_ids uuid[];
begin
  if cardinality(p_conversations) = 1 then
    perform 1 from conversations c where c.id = p_conversations[1] for no key update;
    taken_at := date_trunc('milliseconds', clock_timestamp());
    update conversations c set last_seq = c.last_seq + p_counts[1], message_count = c.message_count + p_messages[1],
      updated_at = taken_at, listed_at = find_listed_at(c.listed_at, taken_at)
    where c.id = p_conversations[1] and c.deleted_at is null
    returning array[c.last_seq - p_counts[1] + 1], array[c.message_count - p_messages[1]],
      case when c.listed_at = taken_at then p_conversations end
    into first_seqs, first_counts, moved_ids;
  else
    perform 1 from conversations c where c.id = any (p_conversations) order by c.id for no key update;
    taken_at := date_trunc('milliseconds', clock_timestamp());
    -- Updates each row by its ctid, which the lock keeps stable. A join by id might be planned as a scan of all
    -- conversations.
    with requested as materialized (
      select t.id, t.count, t.messages, t.position, (
        select c.ctid from conversations c where c.id = t.id and c.deleted_at is null
      ) as row_ctid
      from unnest(p_conversations, p_counts, p_messages) with ordinality as t (id, count, messages, position)
    ),
    updated as (
      update conversations c set last_seq = c.last_seq + g.count, message_count = c.message_count + g.messages,
        updated_at = taken_at, listed_at = find_listed_at(c.listed_at, taken_at)
      from requested g where c.ctid = g.row_ctid
      returning g.id, g.position, c.last_seq - g.count + 1 as first_seq, c.message_count - g.messages as first_count,
        c.listed_at = taken_at as is_moved
    )
    select array_agg(t.first_seq order by t.position), array_agg(t.first_count order by t.position),
      array_agg(t.id) filter (where t.is_moved)
    into first_seqs, first_counts, moved_ids from updated t;
    if cardinality(first_seqs) is distinct from cardinality(p_conversations) then
      raise exception 'a conversation does not exist';
    end if;
  end if;
  if moved_ids is not null then
    perform move_activity(moved_ids, taken_at);
  end if;
end
$$;

-- Returns the new `listed_at` after an event at p_at: the old value if it is less than a minute old, otherwise p_at. If
-- the clock was set back, it is p_at too.
create or replace function find_listed_at(p_listed_at timestamptz, p_at timestamptz) returns timestamptz
language sql immutable parallel safe as $$
  select case when p_at - p_listed_at < interval '1 minute' and p_at >= p_listed_at then p_listed_at else p_at end
$$;
