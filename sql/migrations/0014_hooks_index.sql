-- parley: no transaction
-- Finds a post repeated under the same id; other messages are not in this index.
create unique index concurrently if not exists messages_hook on messages (hook_id, conversation_id, client_message_id)
  where hook_id is not null and client_message_id is not null;
