-- API keys: what programs show in place of a password. A key is random (178 bits), so that its SHA-256 alone hides it.
-- A key that is deleted is gone; those who hold connections ask whether theirs is still there.
create table api_keys (
  id           uuid primary key,
  -- Whose key it is, and whom it acts for.
  user_id      uuid not null references users on delete cascade,
  name         text not null,
  hash         bytea not null constraint api_keys_hash unique,
  -- For people, to tell their keys apart.
  prefix       text not null,
  last_four    text not null,
  scopes       text[] not null check (cardinality(scopes) > 0),
  -- May act for users who are no administrators, while its owner is one.
  is_service   boolean not null default false,
  expires_at   timestamptz,
  -- Coarse: written at most once a minute.
  last_used_at timestamptz,
  created_at   timestamptz not null default now()
);
create index api_keys_user on api_keys (user_id, id);
create index api_keys_expires on api_keys (expires_at) where expires_at is not null;

-- A ticket stands for a session, or for a key and the user whom it acts for. Null: the key does not expire.
alter table tickets
  alter column session_id drop not null,
  alter column credential_expires_at drop not null,
  add column api_key_id uuid,
  add column user_id uuid,
  add constraint tickets_credential check (num_nonnulls(session_id, api_key_id) = 1);

-- Budgets of keys, beside those of users (docs/decisions/0032). A request with a key is reserved for twice, under one id:
-- for the key, and for the user. All keys come before all users, so that nobody waits in a circle.

-- Takes back what was reserved in this transaction for a key, when there was no room for its user.
create function take_back_reservation(p_id uuid, p_scope text)
returns void
language sql
as $$
  with ended as (
    delete from budget_reservations r where r.id = p_id and r.scope = p_scope returning r.*
  )
  update budget_windows w set reserved_tokens = w.reserved_tokens - e.tokens, reserved_usd = w.reserved_usd - e.usd
  from ended e
  where w.scope = e.scope and w.scope_id = e.scope_id
    and ((w.period = 'day' and w.starts_on = e.starts_on)
      or (w.period = 'month' and w.starts_on = date_trunc('month', e.starts_on)::date));
$$;

-- Reserves for the user of a request, after its key: or neither.
create function reserve_for_user(
  p_id uuid, p_user uuid, p_tokens bigint, p_usd numeric, p_limits jsonb, p_expires_at timestamptz
)
returns text
language plpgsql
as $$
declare
  exceeded text := reserve_budget(p_id, 'user', p_user, p_tokens, p_usd, p_limits, p_expires_at);
begin
  if exceeded is not null then
    perform take_back_reservation(p_id, 'key');
  end if;
  return exceeded;
end
$$;

-- Reserves for the key of a request, where it has one, and for its user; or for neither, and returns the period that has
-- no room. p_budget: {"limits": of the user, "key_limits": of the key, absent where keys are not limited}.
create function reserve_budgets(
  p_id uuid, p_user uuid, p_key uuid, p_tokens bigint, p_usd numeric, p_budget jsonb, p_expires_at timestamptz
)
returns text
language plpgsql
as $$
declare
  exceeded text;
begin
  if p_key is not null and p_budget ? 'key_limits' then
    exceeded := reserve_budget(p_id, 'key', p_key, p_tokens, p_usd, p_budget -> 'key_limits', p_expires_at);
  end if;
  if exceeded is null then
    exceeded := reserve_for_user(p_id, p_user, p_tokens, p_usd, p_budget -> 'limits', p_expires_at);
  end if;
  return exceeded;
end
$$;

-- What one answer needs at most, as {tokens, USD}: the prompt, the longest answer, and what both cost with this model.
-- Null: nothing, since the built-in model costs nothing, and is there for everybody. p_budget: as in sql/0006.
create function estimate_answer(p_conversation uuid, p_content_bytes bigint, p_model text, p_budget jsonb)
returns numeric[]
language plpgsql
as $$
declare
  asked text := case when p_budget -> 'models' ? p_model then p_model else p_budget ->> 'default_model' end;
  rule jsonb := p_budget -> 'models' -> asked;
  answer_tokens bigint := (p_budget ->> 'answer_tokens')::bigint;
  history_bytes bigint;
  prompt_tokens bigint;
begin
  if asked like 'offline/%' then
    return null;
  end if;
  select coalesce(sum(octet_length(h.content)), 0) into history_bytes from (
    select m.content from messages m where m.conversation_id = p_conversation and m.deleted_at is null
    order by m.seq desc limit (p_budget ->> 'prompt_messages')::int) h;
  prompt_tokens := (p_budget ->> 'prompt_tokens_extra')::bigint
    + least(estimate_tokens(history_bytes + p_content_bytes), (rule ->> 2)::bigint);
  return array[prompt_tokens + answer_tokens,
    (prompt_tokens * (rule ->> 0)::numeric + answer_tokens * (rule ->> 1)::numeric) / 1000000];
end
$$;

-- Reserves for one answer that is stored in the same transaction.
drop function reserve_answer(uuid, uuid, uuid, bigint, text, jsonb);
create function reserve_answer(
  p_generation uuid, p_user uuid, p_key uuid, p_conversation uuid, p_content_bytes bigint, p_model text, p_budget jsonb
)
returns text
language plpgsql
as $$
declare
  needed numeric[] := estimate_answer(p_conversation, p_content_bytes, p_model, p_budget);
begin
  if needed is null then
    return null;
  end if;
  return reserve_budgets(p_generation, p_user, p_key, needed[1]::bigint, needed[2], p_budget, null);
end
$$;

-- As in sql/0007, but that an item may name the `api_key` that it was sent with.
create or replace function send_messages(
  p_items json, p_conversations uuid[], p_default_model text, p_budget jsonb, p_owner uuid, p_lease_ms integer
)
returns table (
  n bigint, outcome text, message_id uuid, seq bigint, answer_seq bigint, answer_model text, at timestamptz, exceeded text
)
language plpgsql
-- The statement is planned once and kept; tables grow from nothing to millions, so it must not settle on scans. For the
-- same reason each look-up leaves one index to choose: what is compared by `is not distinct from` takes no index.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  -- Always in id order, so that two instances never wait for each other in a circle.
  perform 1 from conversations c where c.id = any (p_conversations) order by c.id for update;

  -- A statement of its own: only its snapshot shows what was committed while the locks were waited for.
  return query
  with checked as (
    select i.*, c.last_seq, stored.id as stored_id,
      coalesce(i.reply, c.reply_mode = 'always' or (c.reply_mode = 'mention' and i.mentioned)) as is_answered,
      coalesce(i.model, c.model, p_default_model) as answer_model,
      case
        when m.role is null then 'not_found'
        when stored.id is not null then 'duplicate'
        when m.role = 'viewer' then 'forbidden'
        when i.parent is not null and not exists (
          select 1 from messages p where p.id = i.parent and p.conversation_id is not distinct from i.conversation
        ) then 'no_parent'
        else 'created'
      end as outcome
    from rows from (
      json_to_recordset(p_items) as (
        id uuid, conversation uuid, author uuid, client_id text, content text, parent uuid, reply boolean,
        mentioned boolean, model text, answer_id uuid, generation_id uuid, api_key uuid)
    ) with ordinality as i (id, conversation, author, client_id, content, parent, reply, mentioned, model, answer_id,
                            generation_id, api_key, n)
    left join members m on m.conversation_id = i.conversation and m.user_id = i.author
    left join conversations c on c.id = m.conversation_id
    left join messages stored on stored.author_id = i.author and stored.client_message_id = i.client_id
      and stored.conversation_id is not distinct from m.conversation_id
  ),
  -- Of the same client id twice in one batch, the first is sent and the others repeat it.
  paired as (
    select c.*, first_value(c.id) over twins as first_id,
      c.outcome = 'created' and row_number() over twins = 1 as is_first
    from checked c
    window twins as (
      partition by c.conversation, c.author, coalesce(c.client_id, c.id::text), c.outcome order by c.n
    )
  ),
  -- All keys before all users, each in the order of their ids: windows are locked in the same order everywhere.
  allowed as materialized (
    select k.*,
      case when k.needed is not null and k.api_key is not null and p_budget ? 'key_limits' then
        reserve_budget(k.generation_id, 'key', k.api_key, k.needed[1]::bigint, k.needed[2], p_budget -> 'key_limits', null)
      end as refused_to_key
    from (
      select p.*,
        case when p.is_first and p.is_answered and p_budget is not null then
          estimate_answer(p.conversation, octet_length(p.content), p.answer_model, p_budget)
        end as needed
      from paired p order by p.api_key, p.n
    ) k
  ),
  afforded as materialized (
    select a.*,
      case when a.needed is null or a.refused_to_key is not null then a.refused_to_key
      else reserve_for_user(a.generation_id, a.author, a.needed[1]::bigint, a.needed[2], p_budget -> 'limits', null)
      end as refused_by
    from (select * from allowed order by author, n) a
  ),
  judged as (
    select a.*, a.is_first and a.refused_by is null as is_new, first_value(a.refused_by) over twins as exceeded
    from afforded a
    window twins as (
      partition by a.conversation, a.author, coalesce(a.client_id, a.id::text), a.outcome order by a.n
    )
  ),
  numbered as (
    select p.*,
      p.last_seq - p.is_answered::int
        + sum(case when p.is_new then 1 + p.is_answered::int else 0 end) over (partition by p.conversation order by p.n)
        as seq
    from judged p
  ),
  counted as (
    update conversations c set last_seq = latest.seq, updated_at = now()
    from (
      select x.conversation, max(x.seq + x.is_answered::int) as seq from numbered x where x.is_new group by 1
    ) latest
    where c.id = latest.conversation
  ),
  sent as (
    insert into messages (id, conversation_id, seq, role, author_id, content, status, model, parent_id, client_message_id)
    select x.id, x.conversation, x.seq, 'user', x.author, x.content, 'complete', null, x.parent, x.client_id
    from numbered x where x.is_new
    union all
    select x.answer_id, x.conversation, x.seq + 1, 'assistant', null, '', 'streaming', x.answer_model, x.id, null
    from numbered x where x.is_new and x.is_answered
  ),
  generating as (
    insert into generations (
      id, message_id, conversation_id, requested_by, model, status, owner, lease_until, fence, started_at)
    select x.generation_id, x.answer_id, x.conversation, x.author, x.answer_model,
      case when p_owner is null then 'pending' else 'running' end, p_owner,
      case when p_owner is not null then now() + p_lease_ms * interval '1 ms' end,
      case when p_owner is null then 0 else 1 end, case when p_owner is not null then now() end
    from numbered x where x.is_new and x.is_answered
  )
  select x.n,
    case
      when x.outcome = 'created' and x.exceeded is not null then 'budget_exceeded'
      when x.outcome = 'created' and not x.is_new then 'duplicate'
      else x.outcome
    end,
    coalesce(x.stored_id, x.first_id),
    case when x.is_new then x.seq::bigint end,
    case when x.is_new and x.is_answered then (x.seq + 1)::bigint end,
    case when x.is_new and x.is_answered then x.answer_model end,
    now(),
    x.exceeded
  from numbered x
  order by x.n;
end
$$;
