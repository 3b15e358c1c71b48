-- parley: no transaction
-- What a user wrote, in order of conversations: for the export, and as before for a repeated client id. With the number, so that
-- the export finds all numbers in the index alone. Its first column is the author, so it also takes the messages without a
-- client id, and needs no second index beside it.
create unique index concurrently if not exists messages_author on messages (author_id, conversation_id, client_message_id) include (seq)
  where author_id is not null;
drop index concurrently if exists messages_client_id;
