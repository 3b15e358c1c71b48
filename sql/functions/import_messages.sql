-- Stores messages of an imported conversation. The first call for a conversation (p_after = 0) also creates the
-- conversation and counts it in the import. All calls for a conversation must be in one transaction.
--
-- The conversation keeps its original times, so lists sort it by its newest message. The messages are old, so there are
-- no events and no webhooks, and all of them count as read.
--
-- p_position: the number of earlier conversations in the file. p_conversation: {id, source_id, title, created_at,
-- updated_at, messages (their number), bytes (of all messages), note (for the report, may be absent)}. p_messages: [{id,
-- role, content, parent, model, at}] in the order of their sequence numbers. p_after: the number of messages that
-- earlier calls have stored.
--
-- Returns stored, known (imported before; nothing is written), no_user (the user is disabled or deleted), or lost
-- (another instance has taken over the import).
create or replace function import_messages(
  p_import uuid, p_position integer, p_conversation json, p_messages json, p_after integer
)
returns text
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  notes_max constant integer := 1000;
  new_conversation_id uuid := p_conversation ->> 'id';
  message_total integer := p_conversation ->> 'messages';
  note text := p_conversation ->> 'note';
  importer uuid;
  import_source text;
  note_number integer;
begin
  -- Don't wait for the disk: after a database crash, the import continues from its last stored position.
  perform set_config('synchronous_commit', 'off', true);
  if p_after = 0 then
    -- This lock is held until the transaction ends, so no other import runs for this user.
    select i.user_id, i.source into importer, import_source from imports i
    where i.id = p_import and i.status = 'running' and i.conversations = p_position for no key update;
    if not found then
      return 'lost';
    end if;
    perform 1 from users u
    where u.id = importer and u.disabled_at is null and u.deleting_at is null for key share;
    if not found then
      return 'no_user';
    end if;
    perform 1 from import_sources s join members m on m.conversation_id = s.conversation_id and m.user_id = s.user_id
    where s.user_id = importer and s.source = import_source and s.source_id = p_conversation ->> 'source_id';
    if found then
      return 'known';
    end if;
    insert into conversations (id, title, titled_by, kind, reply_mode, documents, tools, metadata, created_at)
    values (new_conversation_id, p_conversation ->> 'title',
      case when p_conversation ->> 'title' <> '' then 'person' end, 'direct', 'always', false, 'false',
      jsonb_build_object('import', jsonb_build_object('source', import_source, 'id', p_conversation ->> 'source_id')),
      (p_conversation ->> 'created_at')::timestamptz);
    perform take_positions(array[new_conversation_id], array[message_total], array[message_total]);
    -- These are set before the conversation has a member, because adding a member copies listed_at to the member's list.
    update conversations c set updated_at = x.at, listed_at = x.at
    from (select (p_conversation ->> 'updated_at')::timestamptz as at) x where c.id = new_conversation_id;
    insert into members (conversation_id, user_id, role, is_creator, last_read_seq, read_count, written_bytes)
    values (new_conversation_id, importer, 'owner', true, message_total, message_total, (p_conversation ->> 'bytes')::bigint);
    -- Unless the conversation is too long, adding the member has already created a search range.
    if not exists (select from search_ranges r where r.conversation_id = new_conversation_id) then
      perform add_search_range(new_conversation_id, 1, message_total);
    end if;
    insert into import_sources (user_id, source, source_id, conversation_id)
    values (importer, import_source, p_conversation ->> 'source_id', new_conversation_id)
    on conflict (user_id, source, source_id) do update set conversation_id = excluded.conversation_id;
    update imports i set conversations = i.conversations + 1, imported = i.imported + 1,
      messages = i.messages + message_total, noted = i.noted + (note is not null)::int, updated_at = now()
    where i.id = p_import returning i.noted into note_number;
    if note is not null and note_number <= notes_max then
      insert into import_notes (import_id, n, title, reason)
      values (p_import, note_number, p_conversation ->> 'title', note);
    end if;
  else
    select i.user_id into importer from imports i where i.id = p_import;
  end if;

  insert into messages (conversation_id, seq, id, role, author_id, content, model, parent_id, created_at, updated_at,
    supplied_by)
  select new_conversation_id, p_after + m.n, m.id, m.role, case when m.role = 'user' then importer end, m.content,
    m.model, m.parent, m.at, m.at, case when m.role <> 'user' then importer end
  from rows from (
    json_to_recordset(p_messages) as (id uuid, role text, content text, parent uuid, model text, at timestamptz)
  ) with ordinality as m (id, role, content, parent, model, at, n)
  order by m.n;
  perform mark_analytics_slots(array_agg(m.at)) from json_to_recordset(p_messages) as m (at timestamptz);
  return 'stored';
end
$$;
