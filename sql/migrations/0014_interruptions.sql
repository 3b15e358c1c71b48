-- How often an answer was interrupted in a way that may recur: its instance died, or its end could not be stored. A release
-- during shutdown doesn't count.
alter table generations add column interruptions integer not null default 0;
