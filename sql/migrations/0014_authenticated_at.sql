-- When the user of a session authenticated, if that was before the session was opened: the issuer's token that opened it may
-- be older. Null: when it was opened. Refreshing a session doesn't change it.
alter table sessions add column authenticated_at timestamptz;
