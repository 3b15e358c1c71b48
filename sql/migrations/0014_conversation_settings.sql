-- Settings that were keys of `metadata` before (docs/decisions/0095). Null in `documents` and `tools`: an older release
-- wrote the row last, and the setting is in `metadata`. No row is rewritten, and no constraint checks existing rows.
alter table conversations
  add column documents boolean,
  -- True: all tools. Otherwise false, or an array of names.
  add column tools jsonb,
  add column reasoning_effort text;
alter table conversations
  add constraint conversations_tools check (jsonb_typeof(tools) in ('boolean', 'array')) not valid,
  add constraint conversations_reasoning_effort
    check (reasoning_effort in ('none', 'minimal', 'low', 'medium', 'high', 'xhigh')) not valid;
