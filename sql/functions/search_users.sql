-- The newest users whose address or name contains p_text, newest first: at most p_rows, created before p_before (null: all).
-- Common texts are found fast by a walk from the newest user on; rare ones by an index of pieces, whose hits must all be
-- read for sorting. Which one fits shows after some steps: the walk continues while its hits promise a full page within
-- WALKED further rows. Otherwise up to HITS hits of the index are read. If there are more, the text is common, but not among
-- the users just walked: the walk continues over more rows, then more hits are read, and so on until one of them is
-- complete. So the cost grows with the smaller of two numbers: all hits, and the users newer than the page.
create or replace function search_users(p_text text, p_before uuid, p_rows integer) returns setof uuid
language plpgsql stable rows 50
-- A plan made while the table was nearly empty may read or sort all of it for one step.
set enable_seqscan = off
set enable_sort = off
-- Lowers the estimated number of rows, which is far too high.
set jit = off
as $$
declare
  -- Rows of the first steps: many have common texts, and the lists of their pieces are long.
  walked_min constant integer := 1000;
  -- WALKED: about as many rows as cost the same as the hits of an index, in the worst case of both.
  walked_max constant integer := 8000;
  -- HITS: this many, spread evenly over a million users, fill a page within about as many rows.
  hits_max integer := 4000;
  needle constant text := lower(p_text);
  place uuid := p_before;
  -- Rows of the next step.
  step integer := 250;
  walked integer := 0;
  stepped integer;
  found_rows integer := 0;
  place_row record;
  hits uuid[];
begin
  loop
    stepped := 0;
    for place_row in
      select u.id, u.deleting_at is null and strpos(lower(u.email_key || ' ' || u.display_name), needle) > 0 as is_hit
      from users u where place is null or u.id < place order by u.id desc limit step
    loop
      stepped := stepped + 1;
      if place_row.is_hit then
        return next place_row.id;
        found_rows := found_rows + 1;
        if found_rows >= p_rows then
          return;
        end if;
      end if;
    end loop;
    if stepped < step then
      return;
    end if;
    place := place_row.id;
    walked := walked + step;
    step := walked;
    if walked >= walked_min and walked::bigint * (p_rows - found_rows) > found_rows::bigint * walked_max then
      -- A limit next to the condition might make the planner use another index, row by row.
      if length(needle) < 3 then
        with indexed as materialized (
          select u.id from users u
          where short_pieces(lower(u.email_key || ' ' || u.display_name)) @> array[needle] and u.deleting_at is null
        )
        select array_agg(h.id) into hits from (select i.id from indexed i limit hits_max + 1) h;
      else
        -- Adjacent pieces, and the last one: overlapping pieces add little, and each costs a list to read.
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
        return query select h.id from unnest(hits) h (id) where h.id < place order by h.id desc limit p_rows - found_rows;
        return;
      end if;
      step := hits_max;
      hits_max := 8 * hits_max;
    end if;
  end loop;
end
$$;
