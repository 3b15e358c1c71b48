import { describe, expect, test } from "bun:test";
import { SENT_STATES_MAX, SentStates } from "../../src/modules/inbox/sent-states.ts";

const createState = (last_seq: number, last_read_seq = 0) => ({ last_seq, last_read_seq });
const createList = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ conversation_id: `c${n}`, ...createState(1) }));

describe("the states sent to an inbox", () => {
  test("aren't replaced by older states in a list that loads later", () => {
    const sentStates = new SentStates({ count: 0 });
    sentStates.set("c1", createState(5));
    sentStates.load(createList(3));
    expect(sentStates.find("c1")).toEqual(createState(5));
    expect(sentStates.find("c0")).toEqual(createState(1));
    expect(sentStates.isLoaded).toBe(true);
    expect(sentStates.isComplete).toBe(true);
  });

  test("are outdated by a state with a higher last_seq or last_read_seq", () => {
    const sentStates = new SentStates({ count: 0 });
    sentStates.set("c", createState(5, 2));
    expect(
      [createState(5, 2), createState(4, 2), createState(6, 2), createState(5, 3)].map((newState) =>
        sentStates.isNew("c", newState),
      ),
    ).toEqual([false, false, true, true]);
    expect(sentStates.isNew("other", createState(1))).toBe(true);
  });

  test("are kept only for the most recent conversations, and are marked as incomplete after that", () => {
    const sentStates = new SentStates({ count: 0 });
    sentStates.load(createList(SENT_STATES_MAX - 1));
    expect(sentStates.isComplete).toBe(true);
    sentStates.set("c0", createState(2));
    sentStates.set("new", createState(1));
    expect(sentStates.isComplete).toBe(true);
    sentStates.set("newer", createState(1));
    expect(sentStates.isComplete).toBe(false);
    expect(sentStates.listConversations()).toHaveLength(SENT_STATES_MAX);
    expect(["c0", "c1", "c2", "newer"].map((id) => sentStates.find(id) !== undefined)).toEqual([
      true,
      false,
      true,
      true,
    ]);
  });

  test("are limited in number across all users until they are cleared", () => {
    const totalCounter = { count: 249_999 };
    const [firstStates, secondStates] = [new SentStates(totalCounter), new SentStates(totalCounter)];
    firstStates.load(createList(3));
    expect(firstStates.listConversations()).toHaveLength(1);
    expect(firstStates.isComplete).toBe(false);
    secondStates.load(createList(1));
    expect(secondStates.listConversations()).toEqual([]);
    firstStates.clear();
    expect(totalCounter.count).toBe(249_999);
    secondStates.set("c", createState(1));
    expect(secondStates.listConversations()).toEqual(["c"]);
  });
});
