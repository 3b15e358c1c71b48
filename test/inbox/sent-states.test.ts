import { describe, expect, test } from "bun:test";
import { SENT_STATES_MAX, SentStates } from "../../src/modules/inbox/sent-states.ts";

const state = (last_seq: number, last_read_seq = 0) => ({ last_seq, last_read_seq });
const list = (count: number) => Array.from({ length: count }, (_, n) => ({ conversation_id: `c${n}`, ...state(1) }));

describe("what an inbox was told", () => {
  test("is what was told last, and a list that was read before changes nothing", () => {
    const told = new SentStates({ count: 0 });
    told.set("c1", state(5));
    told.load(list(3));
    expect(told.find("c1")).toEqual(state(5));
    expect(told.find("c0")).toEqual(state(1));
    expect(told.isLoaded).toBe(true);
    expect(told.isComplete).toBe(true);
  });

  test("makes a state new that is further, or of which more is read, and no older one", () => {
    const told = new SentStates({ count: 0 });
    told.set("c", state(5, 2));
    expect([state(5, 2), state(4, 2), state(6, 2), state(5, 3)].map((one) => told.isNew("c", one))).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect(told.isNew("other", state(1))).toBe(true);
  });

  test("is kept of the conversations that were told last, and then it is known that there are others", () => {
    const told = new SentStates({ count: 0 });
    told.load(list(SENT_STATES_MAX - 1));
    expect(told.isComplete).toBe(true);
    told.set("c0", state(2));
    told.set("new", state(1));
    expect(told.isComplete).toBe(true);
    told.set("newer", state(1));
    expect(told.isComplete).toBe(false);
    expect(told.listConversations()).toHaveLength(SENT_STATES_MAX);
    expect(["c0", "c1", "c2", "newer"].map((id) => told.find(id) !== undefined)).toEqual([true, false, true, true]);
  });

  test("takes no memory beyond what all users may take together, and gives it back", () => {
    const total = { count: 249_999 };
    const [one, other] = [new SentStates(total), new SentStates(total)];
    one.load(list(3));
    expect(one.listConversations()).toHaveLength(1);
    expect(one.isComplete).toBe(false);
    other.load(list(1));
    expect(other.listConversations()).toEqual([]);
    one.clear();
    expect(total.count).toBe(249_999);
    other.set("c", state(1));
    expect(other.listConversations()).toEqual(["c"]);
  });
});
