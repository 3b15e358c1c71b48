import { describe, expect, test } from "bun:test";
import { Members } from "../../src/modules/inbox/members.ts";
import type { InboxKey } from "../../src/modules/inbox/queries.ts";

const places = (conversation_id: string, ...users: string[]): InboxKey[] =>
  users.map((user_id) => ({ conversation_id, user_id }));
const listed = (members: Members, id: string) => {
  const found = members.find(id);
  return found && [...found].sort();
};

describe("the cached members of an instance", () => {
  test("follow member events", async () => {
    const members = new Members();
    await members.load(["c"], async () => places("c", "anna", "ben"), 100);
    members.change("c", "clara", true);
    members.change("c", "ben", false);
    // For a conversation that is not cached, one event says nothing about the other members.
    members.change("other", "anna", true);
    expect(listed(members, "c")).toEqual(["anna", "clara"]);
    expect(members.find("other")).toBeUndefined();
  });

  test("may be an empty list, which is cached too", async () => {
    const members = new Members();
    await members.load(["gone"], async () => [], 100);
    expect(listed(members, "gone")).toEqual([]);
  });

  test("are only cached where all of them were read", async () => {
    const members = new Members();
    const rows = [...places("a", "anna"), ...places("b", "anna", "ben")];
    await members.load(["empty", "a", "b", "c"], async () => rows, 3);
    expect(["empty", "a", "b", "c"].map((id) => listed(members, id))).toEqual([[], ["anna"], undefined, undefined]);
    await members.load(["b", "c"], async () => rows.slice(1), 3);
    expect(["b", "c"].map((id) => listed(members, id))).toEqual([["anna", "ben"], []]);
  });

  test("are not cached from a read that began before the cache was cleared", async () => {
    const members = new Members();
    await members.load(
      ["c"],
      async () => {
        members.clear();
        return places("c", "anna");
      },
      100,
    );
    expect(members.find("c")).toBeUndefined();
  });

  test("are limited, so that a large number of conversations cannot fill the memory", async () => {
    const members = new Members();
    for (let n = 0; n < 40; n += 1) {
      const users = Array.from({ length: 10_000 }, (_, user) => `${user}`);
      await members.load([`c${n}`], async () => places(`c${n}`, ...users), 20_000);
    }
    const remembered = Array.from({ length: 40 }, (_, n) => n).filter((n) => members.find(`c${n}`));
    expect(remembered).toHaveLength(29);
    expect(remembered.at(-1)).toBe(39);
  });
});
