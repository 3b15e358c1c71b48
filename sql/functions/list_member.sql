-- Adds a conversation to a new member's list, with the same activity time as in the other members' lists.
create or replace function list_member() returns trigger language plpgsql as $$
begin
  insert into member_activity (conversation_id, user_id, active_at)
  select new.conversation_id, new.user_id, c.listed_at from conversations c where c.id = new.conversation_id
  on conflict do nothing;
  return null;
end
$$;
create or replace trigger members_list_member after insert on members
  for each row execute function list_member();
