-- parley: no transaction
-- Conversations of a member that are searched separately (docs/decisions/0074).
create index concurrently if not exists members_search on members (user_id, conversation_id) where search_scope < 2;
