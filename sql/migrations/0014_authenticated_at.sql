-- When the user of a session has proved who they are, where that was before the session was opened: the token of an issuer
-- that opened it may be older. Null: when it was opened. Refreshing a session doesn't move it.
alter table sessions add column authenticated_at timestamptz;
