import { describe, expect, test } from "bun:test";
import { FRAME_INTERVAL_MS, PendingFrames } from "../../src/modules/inbox/pending.ts";

const createMemberLookup = (...ids: string[]) => {
  return () => ids;
};
const getUserIds = (keys: { user_id: string }[]) => keys.map(({ user_id }) => user_id).sort();

describe("pending inbox frames", () => {
  test("are due immediately and then at most once a second, and include the last change", () => {
    const pendingFrames = new PendingFrames();
    const sentTimesMs: number[] = [];
    // A message is sent every 10 ms for 3.5 seconds, and the frames are polled every 50 ms.
    for (let nowMs = 0; nowMs < 6_000; nowMs += 10) {
      if (nowMs < 3_500) pendingFrames.queueFramesForAll("c", nowMs);
      if (nowMs % 50 !== 0) continue;
      for (const key of pendingFrames.removeDueFrames(nowMs, createMemberLookup("anna"), 10)) {
        sentTimesMs.push(nowMs);
        pendingFrames.recordSent(key, nowMs);
      }
    }
    expect(sentTimesMs).toEqual([0, 1_000, 2_000, 3_000, 4_000]);
  });

  test("have a separate schedule for each user", () => {
    const pendingFrames = new PendingFrames();
    pendingFrames.queueFrame("c", "ben", {}, 0);
    for (const key of pendingFrames.removeDueFrames(0, createMemberLookup("anna", "ben"), 10))
      pendingFrames.recordSent(key, 0);
    pendingFrames.queueFramesForAll("c", 400);
    const firstKeys = pendingFrames.removeDueFrames(400, createMemberLookup("anna", "ben"), 10);
    expect(getUserIds(firstKeys)).toEqual(["anna"]);
    for (const key of firstKeys) pendingFrames.recordSent(key, 400);
    pendingFrames.queueFramesForAll("c", 500);
    expect(pendingFrames.removeDueFrames(999, createMemberLookup("anna", "ben"), 10)).toEqual([]);
    const secondKeys = pendingFrames.removeDueFrames(1_000, createMemberLookup("anna", "ben"), 10);
    expect(getUserIds(secondKeys)).toEqual(["ben"]);
    for (const key of secondKeys) pendingFrames.recordSent(key, 1_000);
    // The change at 500 ms has been sent to Ben, and is due for Anna at 1,400 ms.
    expect(pendingFrames.removeDueFrames(1_399, createMemberLookup("anna", "ben"), 10)).toEqual([]);
    expect(getUserIds(pendingFrames.removeDueFrames(1_400, createMemberLookup("anna", "ben"), 10))).toEqual(["anna"]);
  });

  test("are forgotten a second after they were sent, so idle conversations use no memory", () => {
    const pendingFrames = new PendingFrames();
    for (let n = 0; n < 100; n += 1) pendingFrames.queueFramesForAll(`c${n}`, 0);
    for (const key of pendingFrames.removeDueFrames(0, createMemberLookup("anna"), 1_000))
      pendingFrames.recordSent(key, 0);
    expect(pendingFrames.size).toBe(100);
    expect(pendingFrames.dueAtMs).toBe(FRAME_INTERVAL_MS);
    pendingFrames.removeDueFrames(FRAME_INTERVAL_MS, createMemberLookup("anna"), 1_000);
    expect(pendingFrames.size).toBe(0);
    expect(pendingFrames.dueAtMs).toBe(Number.POSITIVE_INFINITY);
  });

  test("are returned in batches, without repeats or losses", () => {
    const pendingFrames = new PendingFrames();
    const users = Array.from({ length: 25 }, (_, n) => `user ${n}`);
    pendingFrames.queueFramesForAll("c", 0);
    const userIds: string[] = [];
    for (let poll = 0; poll < 3; poll += 1) {
      const keys = pendingFrames.removeDueFrames(poll, createMemberLookup(...users), 10);
      for (const key of keys) pendingFrames.recordSent(key, poll);
      userIds.push(...getUserIds(keys));
    }
    expect(userIds.sort()).toEqual(users.sort());
  });

  test("wait while the members are unknown", () => {
    const pendingFrames = new PendingFrames();
    pendingFrames.queueFramesForAll("c", 0);
    expect(pendingFrames.listDueWithoutMembers(0, () => false, 10)).toEqual(["c"]);
    expect(pendingFrames.removeDueFrames(0, () => undefined, 10)).toEqual([]);
    expect(pendingFrames.dueAtMs).toBeLessThanOrEqual(0);
    expect(pendingFrames.listDueWithoutMembers(0, () => true, 10)).toEqual([]);
    expect(getUserIds(pendingFrames.removeDueFrames(0, createMemberLookup("anna"), 10))).toEqual(["anna"]);
  });

  test("keep the removal of a member unless the user rejoins", () => {
    const pendingFrames = new PendingFrames();
    const removed = { seq: 3, at: "2026-01-01T00:00:00.000Z" };
    pendingFrames.queueFramesForAll("c", 0);
    pendingFrames.queueFrame("c", "ben", { removed }, 0);
    expect(pendingFrames.hasPendingRemoval("c", "ben")).toBe(true);
    pendingFrames.queueFrame("c", "ben", {}, 0);
    expect(pendingFrames.removeDueFrames(0, createMemberLookup("ben"), 10)[0]?.details).toMatchObject({
      removed,
      isAdded: false,
    });
    pendingFrames.queueFrame("c", "ben", { removed }, 0);
    pendingFrames.queueFrame("c", "ben", { isAdded: true }, 0);
    expect(pendingFrames.hasPendingRemoval("c", "ben")).toBe(false);
    expect(pendingFrames.removeDueFrames(0, createMemberLookup("ben"), 10)[0]?.details).toMatchObject({
      removed: null,
      isAdded: true,
    });
  });

  test("are due immediately for a user who has just joined, even if other members have just been notified", () => {
    const pendingFrames = new PendingFrames();
    pendingFrames.queueFramesForAll("c", 0);
    for (const key of pendingFrames.removeDueFrames(0, createMemberLookup("anna"), 10))
      pendingFrames.recordSent(key, 0);
    pendingFrames.recomputeDueTimes(100);
    pendingFrames.queueFramesForAll("c", 100);
    expect(getUserIds(pendingFrames.removeDueFrames(100, createMemberLookup("anna", "ben"), 10))).toEqual(["ben"]);
  });
});
