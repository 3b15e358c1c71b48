import { describe, expect, test } from "bun:test";
import { SENT_STATES_MAX, SentStates } from "../../src/modules/inbox/sent-states.ts";

const createState = (last_seq: number, last_read_seq = 0) => ({ last_seq, last_read_seq });
const createList = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ conversation_id: `c${n}`, ...createState(1) }));

describe("the states sent to an inbox", () => {
  test("aren't replaced by older states in a list that loads later", () => {
    const sent = new SentStates({ count: 0 });
    sent.set("c1", createState(5));
    sent.load(createList(3));
    expect(sent.find("c1")).toEqual(createState(5));
    expect(sent.find("c0")).toEqual(createState(1));
    expect(sent.isLoaded).toBe(true);
    expect(sent.isComplete).toBe(true);
  });

  test("are outdated by a state with a higher last_seq or last_read_seq", () => {
    const sent = new SentStates({ count: 0 });
    sent.set("c", createState(5, 2));
    expect(
      [createState(5, 2), createState(4, 2), createState(6, 2), createState(5, 3)].map((newState) =>
        sent.isNew("c", newState),
      ),
    ).toEqual([false, false, true, true]);
    expect(sent.isNew("other", createState(1))).toBe(true);
  });

  test("are kept only for the most recent conversations, and are marked as incomplete after that", () => {
    const sent = new SentStates({ count: 0 });
    sent.load(createList(SENT_STATES_MAX - 1));
    expect(sent.isComplete).toBe(true);
    sent.set("c0", createState(2));
    sent.set("new", createState(1));
    expect(sent.isComplete).toBe(true);
    sent.set("newer", createState(1));
    expect(sent.isComplete).toBe(false);
    expect(sent.listConversations()).toHaveLength(SENT_STATES_MAX);
    expect(["c0", "c1", "c2", "newer"].map((id) => sent.find(id) !== undefined)).toEqual([true, false, true, true]);
  });

  test("are limited in number across all users until they are cleared", () => {
    const total = { count: 249_999 };
    const [first, second] = [new SentStates(total), new SentStates(total)];
    first.load(createList(3));
    expect(first.listConversations()).toHaveLength(1);
    expect(first.isComplete).toBe(false);
    second.load(createList(1));
    expect(second.listConversations()).toEqual([]);
    first.clear();
    expect(total.count).toBe(249_999);
    second.set("c", createState(1));
    expect(second.listConversations()).toEqual(["c"]);
  });
});
