-- parley: no transaction
-- Messages of a time span, for analytics. New ones are added at its end.
create index concurrently if not exists messages_created on messages (created_at);
