import { describe, expect, test } from "bun:test";
import { SENT_STATES_MAX, SentStates } from "../../src/modules/inbox/sent-states.ts";

const state = (last_seq: number, last_read_seq = 0) => ({ last_seq, last_read_seq });
const list = (count: number) => Array.from({ length: count }, (_, n) => ({ conversation_id: `c${n}`, ...state(1) }));

describe("the states sent to an inbox", () => {
  test("are the latest ones; a list that was read earlier changes nothing", () => {
    const sent = new SentStates({ count: 0 });
    sent.set("c1", state(5));
    sent.load(list(3));
    expect(sent.find("c1")).toEqual(state(5));
    expect(sent.find("c0")).toEqual(state(1));
    expect(sent.isLoaded).toBe(true);
    expect(sent.isComplete).toBe(true);
  });

  test("are replaced by states with a higher seq or read position, not by older ones", () => {
    const sent = new SentStates({ count: 0 });
    sent.set("c", state(5, 2));
    expect([state(5, 2), state(4, 2), state(6, 2), state(5, 3)].map((one) => sent.isNew("c", one))).toEqual([
      false,
      false,
      true,
      true,
    ]);
    expect(sent.isNew("other", state(1))).toBe(true);
  });

  test("are kept for the most recent conversations only, and the inbox knows that it forgot some", () => {
    const sent = new SentStates({ count: 0 });
    sent.load(list(SENT_STATES_MAX - 1));
    expect(sent.isComplete).toBe(true);
    sent.set("c0", state(2));
    sent.set("new", state(1));
    expect(sent.isComplete).toBe(true);
    sent.set("newer", state(1));
    expect(sent.isComplete).toBe(false);
    expect(sent.listConversations()).toHaveLength(SENT_STATES_MAX);
    expect(["c0", "c1", "c2", "newer"].map((id) => sent.find(id) !== undefined)).toEqual([true, false, true, true]);
  });

  test("are limited in memory across all users, and release it", () => {
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
