-- parley: no transaction
-- Messages of a span of time, for analytics. New ones are added at its end.
create index concurrently if not exists messages_created on messages (created_at);
