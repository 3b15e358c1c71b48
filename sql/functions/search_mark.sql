-- A mark in the words of search_entries (docs/decisions/0074). Words of texts are letters and digits: none
-- begins with a dot, and no beginning of a word finds a mark.
-- `m`: a member, and which 1,024 of their messages; `c`: a conversation, and which 1,024 of its numbers. The random half of
-- the id is enough: what is found by chance is left out, since memberships are checked. Casts are written down: with others, Postgres
-- calls these functions once for each mark, instead of putting their text into the query.
create or replace function search_mark(p_kind text, p_id uuid, p_number bigint) returns text
language sql immutable parallel safe as $$
  select '.' || p_kind || rtrim(encode(substring(uuid_send(p_id) from 9), 'base64'), '=') || '.' || (p_number >> 10)::text
$$;

-- All messages of a role, or of a month (UTC), for filters.
create or replace function search_role_mark(p_role text) returns text
language sql immutable parallel safe as $$
  select '.r.' || p_role
$$;
create or replace function search_month_mark(p_at timestamptz) returns text
language sql immutable parallel safe as $$
  select '.t.' || (extract(year from p_at at time zone 'utc') * 12 + extract(month from p_at at time zone 'utc'))::integer::text
$$;

-- A query for any of these marks.
create or replace function search_marks_query(p_marks text[]) returns tsquery
language sql immutable parallel safe as $$
  select string_agg('''' || x.mark || '''', ' | ')::tsquery from unnest(p_marks) x (mark)
$$;
