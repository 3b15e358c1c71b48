-- Options of the answer, for any instance that continues it (docs/decisions/0095). `reply_format`: {name, schema}.
alter table generations add column reasoning_effort text, add column reply_format json;
