import { describe, expect, test } from "bun:test";
import { MemberCache } from "../../src/modules/inbox/members.ts";
import type { InboxKey } from "../../src/modules/inbox/queries.ts";

const createKeys = (conversation_id: string, ...users: string[]): InboxKey[] =>
  users.map((user_id) => ({ conversation_id, user_id }));
const listMembers = (members: MemberCache, id: string) => {
  const memberIds = members.get(id);
  return memberIds && [...memberIds].sort();
};

describe("cached members", () => {
  test("are updated by member events", async () => {
    const members = new MemberCache();
    await members.load(["c"], async () => createKeys("c", "anna", "ben"), 100);
    members.setMember("c", "clara", true);
    members.setMember("c", "ben", false);
    // This conversation isn't cached, so its other members are unknown.
    members.setMember("other", "anna", true);
    expect(listMembers(members, "c")).toEqual(["anna", "clara"]);
    expect(members.get("other")).toBeUndefined();
  });

  test("are an empty list for a conversation without members", async () => {
    const members = new MemberCache();
    await members.load(["empty"], async () => [], 100);
    expect(listMembers(members, "empty")).toEqual([]);
  });

  test("are cached only for conversations whose members were all loaded", async () => {
    const members = new MemberCache();
    const rows = [...createKeys("a", "anna"), ...createKeys("b", "anna", "ben")];
    await members.load(["empty", "a", "b", "c"], async () => rows, 3);
    expect(["empty", "a", "b", "c"].map((id) => listMembers(members, id))).toEqual([
      [],
      ["anna"],
      undefined,
      undefined,
    ]);
    await members.load(["b", "c"], async () => rows.slice(1), 3);
    expect(["b", "c"].map((id) => listMembers(members, id))).toEqual([["anna", "ben"], []]);
  });

  test("aren't cached if the cache was cleared while they were loading", async () => {
    const members = new MemberCache();
    await members.load(
      ["c"],
      async () => {
        members.clear();
        return createKeys("c", "anna");
      },
      100,
    );
    expect(members.get("c")).toBeUndefined();
  });

  test("are limited in number to save memory", async () => {
    const members = new MemberCache();
    for (let n = 0; n < 40; n += 1) {
      const users = Array.from({ length: 10_000 }, (_, user) => `${user}`);
      await members.load([`c${n}`], async () => createKeys(`c${n}`, ...users), 20_000);
    }
    const cachedConversations = Array.from({ length: 40 }, (_, n) => n).filter((n) => members.get(`c${n}`));
    expect(cachedConversations).toHaveLength(29);
    expect(cachedConversations.at(-1)).toBe(39);
  });
});
