-- What an answer has beside its text (docs/decisions/0095). As `json`, which keeps the order of an object's keys: models write the
-- properties of a schema in their order.
alter table messages
  -- What the model thought.
  add column reasoning text,
  -- The parsed answer where one of a schema was asked for.
  add column output json,
  -- Of a user's message: what its answers are to be like, see send_messages. Null: nothing was said.
  add column reply_options json;
