-- Deletes the stored pieces of answers in progress, of a conversation's messages up to p_until_seq. Their generations are
-- locked first, so that no piece is stored behind its back: delete the generations in the same transaction.
create or replace function delete_pieces(p_conversation uuid, p_until_seq bigint) returns void language plpgsql as $$
begin
  perform 1 from generations g
  where g.conversation_id = p_conversation and g.message_seq <= p_until_seq and g.status <> 'finished'
  order by g.id for update;
  delete from generation_pieces p using generations g
  where g.conversation_id = p_conversation and g.message_seq <= p_until_seq and g.status <> 'finished'
    and p.conversation_id = g.conversation_id and p.generation_id = g.id;
end
$$;
