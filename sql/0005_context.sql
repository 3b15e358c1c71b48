-- What a model is shown of a long conversation, and the title that a conversation is given.

-- The rolling summary of a branch: it stands for the message `message_id` and all before it on its path.
create table summaries (
  id              uuid primary key,
  conversation_id uuid not null references conversations on delete cascade,
  message_id      uuid not null unique references messages on delete cascade,
  -- The number of that message: no message after it is covered.
  until_seq       bigint not null,
  content         text not null,
  model           text not null,
  input_tokens    integer,
  output_tokens   integer,
  cost_usd        numeric(14, 8),
  created_at      timestamptz not null default now()
);
create index summaries_conversation on summaries (conversation_id, until_seq);

-- A summary never outlives what it says: whoever changes or deletes a message that one may cover, takes it away in the
-- same transaction. That of another branch may go with it; it is made again.
create function drop_summaries() returns trigger language plpgsql as $$
begin
  delete from summaries where conversation_id = new.conversation_id and until_seq >= new.seq;
  return null;
end
$$;
create trigger messages_drop_summaries after update of content, status, deleted_at on messages
  for each row when (old.status <> 'streaming' and (old.content is distinct from new.content
    or old.status is distinct from new.status or old.deleted_at is distinct from new.deleted_at))
  execute function drop_summaries();

-- Who settled the title: null as long as nobody has. A model may do it once, a person always.
alter table conversations add column titled_by text check (titled_by in ('model', 'person'));
update conversations set titled_by = 'person' where title <> '';
