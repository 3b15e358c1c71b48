-- Budgets (docs/decisions/0030): what a user or an API key has spent in a day and in a month (UTC), and what is reserved
-- for answers in progress. Locks are always taken in this order: conversation, generation, charge, reservation,
-- window (by scope, scope_id, period).

-- Every answer changes these rows at its beginning and its end, so pages keep room for the next version of a row.
create table budget_windows (
  scope           text not null check (scope in ('user', 'key')),
  scope_id        uuid not null,
  period          text not null check (period in ('day', 'month')),
  starts_on       date not null,
  spent_tokens    bigint not null default 0,
  spent_usd       numeric(18, 8) not null default 0,
  reserved_tokens bigint not null default 0 check (reserved_tokens >= 0),
  reserved_usd    numeric(18, 8) not null default 0 check (reserved_usd >= 0),
  primary key (scope, scope_id, period, starts_on)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);

-- For the sweep of what was spent long ago.
create index budget_windows_starts on budget_windows (starts_on);

create table budget_reservations (
  -- The generation that it is for, or an id of its own where no generation is stored.
  id         uuid not null,
  scope      text not null check (scope in ('user', 'key')),
  scope_id   uuid not null,
  starts_on  date not null,
  tokens     bigint not null check (tokens >= 0),
  usd        numeric(18, 8) not null check (usd >= 0),
  -- Null: it lives as long as its generation does. Otherwise the instance that holds it renews its lease (src/db/leases.ts).
  owner       uuid,
  fence       integer not null default 0,
  lease_until timestamptz,
  primary key (id, scope)
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);

-- What was charged outside of a transaction that stores the end of an answer. A charge whose commit got no response is tried
-- again under the same id; so it is kept for longer than anything is tried.
create table budget_charges (
  id         uuid primary key,
  charged_at timestamptz not null default now()
);
create index budget_charges_charged on budget_charges (charged_at);
