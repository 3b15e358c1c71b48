-- parley: no transaction
-- Indexes of tables that may be large, built beside the running instances. Each statement can be repeated.

-- What is unread does not count deleted messages.
create index concurrently if not exists messages_deleted on messages (conversation_id, seq) where deleted_at is not null;

-- Live sessions by their last use: a login beyond the quota ends those that have not been used for longest.
create index concurrently if not exists sessions_live on sessions (user_id, last_used_at) where revoked_at is null;
