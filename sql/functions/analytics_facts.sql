-- Returns the figures of each message in some time ranges, with the columns of analytics_slot_figures. An answer counts
-- at the time when its message was created. Deleted messages, and those of deleted conversations, do not count.
--
-- owner_id is the author or, for an answer, the user who requested it: the one in the answer's metadata, otherwise the
-- author of the question (or the creator of the hook that posted it).
create or replace function list_analytics_facts(p_froms timestamptz[], p_tos timestamptz[])
returns table (
  slot timestamptz, model text, owner_id uuid, conversation_id uuid, is_answer boolean, system_messages integer,
  user_messages integer, assistant_messages integer, tool_messages integer, generations integer,
  failed_generations integer, input_tokens bigint, output_tokens bigint, cached_input_tokens bigint,
  reasoning_tokens bigint, cost_usd numeric, positive_feedback bigint, negative_feedback bigint,
  first_token_bucket smallint
)
language plpgsql stable
set plan_cache_mode = force_generic_plan
set jit = off
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  select analytics_slot(m.created_at), case when x.is_answer then coalesce(m.model, '') else '' end,
    case when x.is_answer then coalesce(
      case when m.metadata ->> 'requested_by' ~ '^[0-9a-f-]{36}$' then (m.metadata ->> 'requested_by')::uuid end, (
        select coalesce(q.author_id, q.hook_user_id) from messages q
        where q.conversation_id = m.conversation_id and q.id = m.parent_id limit 1
      )) else m.author_id end,
    m.conversation_id, x.is_answer, (m.role = 'system')::integer, (m.role = 'user')::integer, x.is_answer::integer,
    (m.role = 'tool')::integer, x.has_ended::integer, (x.has_ended and m.status = 'failed')::integer,
    coalesce(m.input_tokens, 0)::bigint, coalesce(m.output_tokens, 0)::bigint,
    coalesce(m.cached_input_tokens, 0)::bigint, coalesce(m.reasoning_tokens, 0)::bigint, coalesce(m.cost_usd, 0),
    coalesce(f.positive, 0), coalesce(f.negative, 0), first_token_bucket(m.first_token_ms)
  from unnest(p_froms, p_tos) as s (from_at, to_at)
  -- `offset 0` makes Postgres plan this subquery separately. A join might scan all messages.
  cross join lateral (
    select x.* from messages x where x.created_at >= s.from_at and x.created_at < s.to_at and x.deleted_at is null offset 0
  ) m
  -- An answer supplied by a client has no finish reason.
  cross join lateral (
    select m.role = 'assistant' as is_answer, m.role = 'assistant' and m.finish_reason is not null as has_ended
  ) x
  left join lateral (
    select count(*) filter (where r.rating > 0) as positive, count(*) filter (where r.rating < 0) as negative
    from feedback r where x.is_answer and r.conversation_id = m.conversation_id and r.message_seq = m.seq
  ) f on true
  where not exists (select from conversations c where c.id = m.conversation_id and c.deleted_at is not null);
end
$$;

-- Returns the bucket of a time to the first token: exact below 128 ms, then each bucket is 2 % wider than the previous
-- one, up to an hour.
create or replace function first_token_bucket(p_ms integer) returns smallint
language sql immutable strict parallel safe
as $$
  select case when p_ms < 128 then greatest(p_ms, 0) else 128 + floor(ln(least(p_ms, 3600000) / 128.0::float8) / ln(1.02::float8)) end::smallint
$$;

-- Returns the middle of a bucket, in milliseconds.
create or replace function first_token_ms(p_bucket smallint) returns integer
language sql immutable parallel safe
as $$
  select case when p_bucket < 128 then p_bucket else round(128 * power(1.02::float8, p_bucket - 128 + 0.5)) end::integer
$$;
