-- Deletes up to p_rows messages of a conversation in which nobody but the user is left, and at the end the conversation
-- itself, with its last event. `is_erased`: it is gone, and this is its `conversation.deleted`. `is_shared`: somebody else
-- is a member, and nothing was done.
create or replace function erase_conversation(p_user uuid, p_conversation uuid, p_rows integer)
returns table (is_shared boolean, is_erased boolean, seq bigint, at timestamptz)
language plpgsql
as $$
declare
  until_seq bigint;
  erased integer;
  deleted_seq bigint;
  deleted_at timestamptz;
begin
  perform 1 from conversations c where c.id = p_conversation for update;
  -- Another instance, or its owner, has deleted it meanwhile.
  if not found then
    return query select false, false, null::bigint, null::timestamptz;
    return;
  end if;
  if exists (select 1 from members m where m.conversation_id = p_conversation and m.user_id <> p_user) then
    return query select true, false, null::bigint, null::timestamptz;
    return;
  end if;

  select max(o.seq), count(*) into until_seq, erased
  from (select m.seq from messages m where m.conversation_id = p_conversation order by m.seq limit p_rows) o;
  -- Generations before messages: the order in which the ends of answers lock both.
  perform delete_pieces(p_conversation, until_seq);
  delete from generations g where g.conversation_id = p_conversation and g.message_seq <= until_seq;
  delete from messages m where m.conversation_id = p_conversation and m.seq <= until_seq;
  if erased < p_rows then
    select t.first_seqs[1], t.taken_at into deleted_seq, deleted_at from take_seqs(array[p_conversation], array[1]) t;
    perform append_events(array[p_conversation], array[deleted_seq], array['conversation.deleted'], null,
      array[jsonb_build_object('id', p_conversation)], deleted_at);
    delete from conversations c where c.id = p_conversation;
  end if;
  return query select false, erased < p_rows, deleted_seq, deleted_at;
end
$$;
