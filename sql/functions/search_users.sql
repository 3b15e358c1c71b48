-- Returns users whose email address or name contains p_text, newest first: at most p_rows, and only those created
-- before p_before unless it is null.
--
-- There are two ways to find users. Scanning users from the newest on is fast if the text is common. Reading a trigram
-- index is fast if the text is rare, because all of its hits must be read and sorted. The search begins with a scan, and
-- continues it while its hits suggest that the page will be full within scanned_max more rows. Otherwise it reads up to
-- hits_max hits from the index. If the index has more hits, the text is common, but not among the scanned users. Then the
-- scan continues over more rows, then more hits are read, and so on, until one of the two is complete. So the cost
-- depends on the smaller of two numbers: all hits, or the users that are newer than the page's last one.
create or replace function search_users(p_text text, p_before uuid, p_rows integer) returns setof uuid
language plpgsql stable rows 50
-- A plan made while the table was nearly empty may read or sort the whole table for one step.
set enable_seqscan = off
set enable_sort = off
-- The planner's estimate of the number of rows is far too high, so it would use JIT compilation, which is slow.
set jit = off
as $$
declare
  -- At least this many rows are scanned before the index is used, because a scan soon finds hits for a common text, and
  -- the index lists of that text's trigrams are long.
  scanned_min constant integer := 1000;
  -- In the worst case, scanning this many rows costs about as much as reading hits_max hits from the index.
  scanned_max constant integer := 8000;
  -- This many hits, spread evenly over a million users, fill a page within about scanned_max rows.
  hits_max integer := 4000;
  needle constant text := lower(p_text);
  last_id uuid := p_before;
  -- The number of rows to scan in the next step.
  step integer := 250;
  scanned integer := 0;
  step_rows integer;
  found_rows integer := 0;
  user_row record;
  hits uuid[];
begin
  loop
    step_rows := 0;
    for user_row in
      select u.id, u.deleting_at is null and strpos(lower(u.email_key || ' ' || u.display_name), needle) > 0 as is_hit
      from users u where last_id is null or u.id < last_id order by u.id desc limit step
    loop
      step_rows := step_rows + 1;
      if user_row.is_hit then
        return next user_row.id;
        found_rows := found_rows + 1;
        if found_rows >= p_rows then
          return;
        end if;
      end if;
    end loop;
    if step_rows < step then
      return;
    end if;
    last_id := user_row.id;
    scanned := scanned + step;
    step := scanned;
    if scanned >= scanned_min and scanned::bigint * (p_rows - found_rows) > found_rows::bigint * scanned_max then
      -- With a limit here, the planner might use another index, row by row.
      if length(needle) < 3 then
        with indexed as materialized (
          select u.id from users u
          where short_pieces(lower(u.email_key || ' ' || u.display_name)) @> array[needle] and u.deleting_at is null
        )
        select array_agg(h.id) into hits from (select i.id from indexed i limit hits_max + 1) h;
      else
        -- Non-overlapping trigrams, and the last one. Further trigrams would narrow the search little, and each requires
        -- reading another index list.
        with indexed as materialized (
          select u.id from users u
          where text_pieces(lower(u.email_key || ' ' || u.display_name)) @> (
              select array_agg(substr(needle, least(n, length(needle) - 2), 3)) from generate_series(1, length(needle), 3) n)
            and (length(needle) = 3 or strpos(lower(u.email_key || ' ' || u.display_name), needle) > 0)
            and u.deleting_at is null
        )
        select array_agg(h.id) into hits from (select i.id from indexed i limit hits_max + 1) h;
      end if;
      if coalesce(cardinality(hits), 0) <= hits_max then
        return query select h.id from unnest(hits) h (id) where h.id < last_id order by h.id desc limit p_rows - found_rows;
        return;
      end if;
      step := hits_max;
      hits_max := 8 * hits_max;
    end if;
  end loop;
end
$$;
