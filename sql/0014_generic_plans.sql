-- Functions on the way of every answer are planned once for each connection. Left to itself, Postgres plans their large
-- statements anew for every call, which takes longer than to run them. (send_messages has been so from the start.)
do $$
declare
  f regprocedure;
begin
  for f in
    select p.oid from pg_proc p
    where p.pronamespace = current_schema()::regnamespace
      and p.proname in ('finish_answers', 'settle_budgets', 'reserve_answer', 'reserve_budget')
  loop
    execute format('alter function %s set plan_cache_mode = force_generic_plan', f);
  end loop;
end
$$;
