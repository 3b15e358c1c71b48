-- Settings of the answer, also for an instance that takes it over (docs/decisions/0095). `reply_format`: {name, schema}.
alter table generations add column reasoning_effort text, add column reply_format json;
