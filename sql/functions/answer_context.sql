-- These functions read the context of an answer in one query. If possible, they are called in the statement that stores
-- the question, otherwise separately (docs/decisions/0045).

-- Returns the settings for an answer that p_user requests, and the newest messages on the path to p_from (see
-- list_path), or to the newest message if p_from is null. Returns null if the conversation no longer exists.
create or replace function read_answer_context(
  p_conversation uuid, p_user uuid, p_from uuid, p_rows integer, p_bytes integer
) returns json
language plpgsql
-- Plans are cached, because planning takes longer than execution. For the other settings, see send_messages.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  return (
    select row_to_json(a) from (
      select c.id, c.title, c.kind, c.titled_by, c.model, c.reasoning_effort,
        uses_documents(c.documents, c.metadata) as documents, chosen_tools(c.tools, c.metadata) as tools,
        -- For older instances, which don't support lists of tools. If there is a list, they get `false`, because they
        -- would otherwise offer tools that aren't in the list.
        jsonb_build_object('documents', uses_documents(c.documents, c.metadata),
          'tools', chosen_tools(c.tools, c.metadata) = 'true'::jsonb) as metadata,
        v.template, p.user_id as prompt_owner_id,
        u.id as user_id, u.display_name, u.preferences,
        coalesce((
          select json_agg(x) from (
            select l.role, l.author_name, l.content, l.summary, l.continue_at
            from list_path(p_conversation, case when p_from is null then c.last_seq else (
              select f.seq from messages f where f.conversation_id = p_conversation and f.id = p_from) end,
              p_rows, p_bytes, null, c.kind = 'group') l
          ) x
        ), '[]') as newest
      from conversations c
      left join prompts p on p.id = c.prompt_id and p.deleted_at is null
      left join prompt_versions v on v.prompt_id = p.id and v.version = p.version
      left join users u on u.id = p_user
      where c.id = p_conversation
    ) a);
end
$$;

-- Returns the context for the answer to a message that was just sent. Its author, or the creator of its hook, requests
-- the answer. Messages written by the same statement are visible. Returns null if the newest p_rows messages have more
-- than p_bytes of text, because reading them would delay a commit for which others wait.
create or replace function read_message_context(p_conversation uuid, p_seq bigint, p_rows integer, p_bytes integer)
returns json
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
  return (
    select read_answer_context(p_conversation, coalesce(m.author_id, m.hook_user_id), m.id, p_rows, p_bytes)
    from messages m
    where m.conversation_id = p_conversation and m.seq = p_seq and p_bytes >= (
      select coalesce(sum(octet_length(newest.content)), 0) from (
        select x.content from messages x where x.conversation_id = p_conversation and x.seq <= p_seq
        order by x.seq desc limit p_rows
      ) newest));
end
$$;
