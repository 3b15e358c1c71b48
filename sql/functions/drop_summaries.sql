-- Keeps summaries up to date: if a message is changed or deleted, the summaries that may cover it are deleted in the same
-- transaction. Summaries of other branches may be deleted too; they are recreated.
create or replace function drop_summaries() returns trigger language plpgsql as $$
begin
  delete from summaries where conversation_id = new.conversation_id and until_seq >= new.seq;
  return null;
end
$$;
create or replace trigger messages_drop_summaries after update of content, status, deleted_at on messages
  for each row when (old.status <> 'streaming' and (old.content is distinct from new.content
    or old.status is distinct from new.status or old.deleted_at is distinct from new.deleted_at))
  execute function drop_summaries();
