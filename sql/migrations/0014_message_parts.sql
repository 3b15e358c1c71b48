-- Parts of an answer in addition to its text (docs/decisions/0095). As `json`, which keeps the order of an object's keys:
-- models write the properties of a schema in order.
alter table messages
  -- The model's reasoning.
  add column reasoning text,
  -- The parsed answer, if a schema was requested.
  add column output json,
  -- For a user's message: the options of its answers, see send_messages. Null: none given.
  add column reply_options json;
