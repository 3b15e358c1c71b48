-- Decides how a new member's searches find the conversation's messages. A mark is an index term of a message that says
-- whose searches find it. Normally, each member has a mark, which is added to existing messages in the background. If the
-- conversation has too many messages or members, it is searched separately, with one mark for the whole conversation.
create or replace function index_member() returns trigger
language plpgsql
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
  -- A message has one mark per member, for at most this many members.
  members_max constant integer := 16;
  seqs_max constant bigint := 5000;
  state record;
begin
  -- Nothing to do: the member already exists, and only the role changes.
  if exists (select from members m where m.conversation_id = new.conversation_id and m.user_id = new.user_id) then
    return new;
  end if;
  select c.message_count, c.last_seq into state from conversations c where c.id = new.conversation_id;
  if (select count(*) from (select from members m where m.conversation_id = new.conversation_id limit members_max) x)
    >= members_max or state.last_seq > seqs_max
  then
    new.search_scope := 0;
  elsif coalesce(state.message_count, 0) = 0 then
    new.search_scope := 2;
  else
    new.search_scope := 1;
    if not exists (
      select from search_ranges r where r.conversation_id = new.conversation_id and r.user_id = new.user_id
    ) then
      insert into search_ranges (conversation_id, first_seq, until_seq, user_id)
      values (new.conversation_id, 1, state.last_seq, new.user_id);
    end if;
  end if;
  return new;
end
$$;
create or replace trigger members_index_member before insert on members
  for each row execute function index_member();
