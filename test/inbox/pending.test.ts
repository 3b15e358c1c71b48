import { describe, expect, test } from "bun:test";
import { FRAME_INTERVAL_MS, PendingFrames } from "../../src/modules/inbox/pending.ts";

const members = (...ids: string[]) => {
  return () => ids;
};
const getUserIds = (keys: { user_id: string }[]) => keys.map(({ user_id }) => user_id).sort();

describe("pending inbox frames", () => {
  test("are due immediately, then at most once a second, and include the last change", () => {
    const pending = new PendingFrames();
    const sent: number[] = [];
    // A message every 10 ms, for 3.5 seconds, and a poll every 50 ms.
    for (let nowMs = 0; nowMs < 6_000; nowMs += 10) {
      if (nowMs < 3_500) pending.markAll("c", nowMs);
      if (nowMs % 50 !== 0) continue;
      for (const key of pending.takeDue(nowMs, members("anna"), 10)) {
        sent.push(nowMs);
        pending.markSent(key, nowMs);
      }
    }
    expect(sent).toEqual([0, 1_000, 2_000, 3_000, 4_000]);
  });

  test("have a separate schedule for each user", () => {
    const pending = new PendingFrames();
    pending.markUser("c", "ben", {}, 0);
    for (const key of pending.takeDue(0, members("anna", "ben"), 10)) pending.markSent(key, 0);
    pending.markAll("c", 400);
    const first = pending.takeDue(400, members("anna", "ben"), 10);
    expect(getUserIds(first)).toEqual(["anna"]);
    for (const key of first) pending.markSent(key, 400);
    pending.markAll("c", 500);
    expect(pending.takeDue(999, members("anna", "ben"), 10)).toEqual([]);
    const second = pending.takeDue(1_000, members("anna", "ben"), 10);
    expect(getUserIds(second)).toEqual(["ben"]);
    for (const key of second) pending.markSent(key, 1_000);
    // The change at 500 ms has been sent to Ben, and is due for Anna at 1,400 ms.
    expect(pending.takeDue(1_399, members("anna", "ben"), 10)).toEqual([]);
    expect(getUserIds(pending.takeDue(1_400, members("anna", "ben"), 10))).toEqual(["anna"]);
  });

  test("are forgotten a second after they were sent, so that idle conversations use no memory", () => {
    const pending = new PendingFrames();
    for (let n = 0; n < 100; n += 1) pending.markAll(`c${n}`, 0);
    for (const key of pending.takeDue(0, members("anna"), 1_000)) pending.markSent(key, 0);
    expect(pending.size).toBe(100);
    expect(pending.dueAtMs).toBe(FRAME_INTERVAL_MS);
    pending.takeDue(FRAME_INTERVAL_MS, members("anna"), 1_000);
    expect(pending.size).toBe(0);
    expect(pending.dueAtMs).toBe(Number.POSITIVE_INFINITY);
  });

  test("are returned in batches, without repeats or losses", () => {
    const pending = new PendingFrames();
    const users = Array.from({ length: 25 }, (_, n) => `user ${n}`);
    pending.markAll("c", 0);
    const userIds: string[] = [];
    for (let poll = 0; poll < 3; poll += 1) {
      const keys = pending.takeDue(poll, members(...users), 10);
      for (const key of keys) pending.markSent(key, poll);
      userIds.push(...getUserIds(keys));
    }
    expect(userIds.sort()).toEqual(users.sort());
  });

  test("wait while the members are unknown", () => {
    const pending = new PendingFrames();
    pending.markAll("c", 0);
    expect(pending.listUnloaded(0, () => false, 10)).toEqual(["c"]);
    expect(pending.takeDue(0, () => undefined, 10)).toEqual([]);
    expect(pending.dueAtMs).toBeLessThanOrEqual(0);
    expect(pending.listUnloaded(0, () => true, 10)).toEqual([]);
    expect(getUserIds(pending.takeDue(0, members("anna"), 10))).toEqual(["anna"]);
  });

  test("keep the removal of a member unless the user rejoins", () => {
    const pending = new PendingFrames();
    const removed = { seq: 3, at: "2026-01-01T00:00:00.000Z" };
    pending.markAll("c", 0);
    pending.markUser("c", "ben", { removed }, 0);
    expect(pending.isRemoved("c", "ben")).toBe(true);
    pending.markUser("c", "ben", {}, 0);
    expect(pending.takeDue(0, members("ben"), 10)[0]?.details).toMatchObject({ removed, isAdded: false });
    pending.markUser("c", "ben", { removed }, 0);
    pending.markUser("c", "ben", { isAdded: true }, 0);
    expect(pending.isRemoved("c", "ben")).toBe(false);
    expect(pending.takeDue(0, members("ben"), 10)[0]?.details).toMatchObject({ removed: null, isAdded: true });
  });

  test("are due immediately for a user who has just joined, even if other members have just been notified", () => {
    const pending = new PendingFrames();
    pending.markAll("c", 0);
    for (const key of pending.takeDue(0, members("anna"), 10)) pending.markSent(key, 0);
    pending.recomputeDueTimes(100);
    pending.markAll("c", 100);
    expect(getUserIds(pending.takeDue(100, members("anna", "ben"), 10))).toEqual(["ben"]);
  });
});
