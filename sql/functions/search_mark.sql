-- Returns a mark, an artificial word that is stored among the words of a message in search_entries (docs/decisions/0074).
-- Marks begin with a dot. Words of messages consist of letters and digits, so no prefix search finds a mark. Kind `m` is
-- for a member and a block of 1,024 of the messages that the member can read; kind `c` is for a conversation and a block
-- of 1,024 of its sequence numbers. The mark contains only the random half of the id, which is enough because the
-- membership check removes false matches. The explicit casts make Postgres inline these functions, instead of calling
-- them for each mark.
create or replace function search_mark(p_kind text, p_id uuid, p_number bigint) returns text
language sql immutable parallel safe as $$
  select '.' || p_kind || rtrim(encode(substring(uuid_send(p_id) from 9), 'base64'), '=') || '.' || (p_number >> 10)::text
$$;

-- Return the marks of all messages of a role, or of a month (UTC), for filters.
create or replace function search_role_mark(p_role text) returns text
language sql immutable parallel safe as $$
  select '.r.' || p_role
$$;
create or replace function search_month_mark(p_at timestamptz) returns text
language sql immutable parallel safe as $$
  select '.t.' || (extract(year from p_at at time zone 'utc') * 12 + extract(month from p_at at time zone 'utc'))::integer::text
$$;

-- Returns a query that matches any of the marks.
create or replace function search_marks_query(p_marks text[]) returns tsquery
language sql immutable parallel safe as $$
  select string_agg('''' || x.mark || '''', ' | ')::tsquery from unnest(p_marks) x (mark)
$$;
