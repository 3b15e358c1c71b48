import { describe, expect, test } from "bun:test";
import type { MemberRole } from "../../src/protocol/conversation.ts";
import type { DurableEventType } from "../../src/protocol/events.ts";
import type { Listener } from "../../src/realtime/room.ts";
import { createTestEvent } from "../support/test-events.ts";
import { createTestHub, type TestHub } from "../support/test-hub.ts";

const conversation_id = "0190e6f0-0000-7000-8000-000000000000";
/** Returns a user id made from a name of at most six letters. */
const createNamedId = (name: string) =>
  `0190e6f0-0000-7000-8000-${Buffer.from(name).toString("hex").padStart(12, "0")}`;
const createEvent = (seq: number, type?: DurableEventType, user?: string, role?: MemberRole) =>
  createTestEvent(conversation_id, seq, type, {
    ...(user !== undefined && { user_id: createNamedId(user) }),
    ...(role && { role }),
  });

function createListener(name: string) {
  const frames: { type: string; seq?: number }[] = [];
  const expelledFrom: string[] = [];
  const listener: Listener = {
    userId: createNamedId(name),
    send: (text) => frames.push(JSON.parse(text)),
    onExpelled: (id) => expelledFrom.push(id),
  };
  return { listener, frames, expelledFrom, listTypes: () => frames.map(({ type }) => type) };
}
const join = (hub: TestHub, listener: Listener, role: MemberRole = "member", lastSeq = 0) =>
  hub.join(
    conversation_id,
    listener,
    async () => ({ role, lastSeq }),
    () => {},
  );

describe("a failing listener", () => {
  test("affects neither other listeners nor the publisher", async () => {
    const hub = createTestHub();
    const [firstListener, lastListener] = [createListener("first"), createListener("last")];
    const brokenListener: Listener = {
      userId: createNamedId("broken"),
      send() {
        throw new Error("broken");
      },
    };
    for (const listener of [firstListener.listener, brokenListener, lastListener.listener]) await join(hub, listener);
    hub.publish(createEvent(1));
    hub.publish({ type: "typing", conversation_id, user_id: createNamedId("first"), active: true, expires_in_ms: 1 });
    hub.publish(createEvent(2));
    for (const { frames } of [firstListener, lastListener])
      expect(frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2]);
    expect(lastListener.listTypes()).toContain("typing");
  });
});

describe("when access is lost", () => {
  test("the last event that a removed member receives is the removal, even if an earlier event is missing", async () => {
    const hub = createTestHub();
    const [anna, ben] = [createListener("anna"), createListener("ben")];
    for (const { listener } of [ben, anna]) await join(hub, listener);
    hub.publish(createEvent(1));
    hub.publish(createEvent(3, "member.removed", "ben"));
    hub.publish(createEvent(2));
    hub.publish(createEvent(4));
    const listSeqs = ({ frames }: typeof anna) => frames.flatMap(({ seq }) => seq ?? []);
    expect({ ben: listSeqs(ben), anna: listSeqs(anna) }).toEqual({ ben: [1, 3], anna: [1, 2, 3, 4] });
    expect([ben.expelledFrom, anna.expelledFrom]).toEqual([[conversation_id], []]);
    expect(anna.frames).toContainEqual({
      type: "presence",
      conversation_id,
      user_id: createNamedId("ben"),
      online: false,
    } as never);
  });

  test("all listeners of a deleted conversation are disconnected, without presence frames", async () => {
    const hub = createTestHub();
    const listeners = ["a", "b", "c"].map(createListener);
    for (const { listener } of listeners) await join(hub, listener);
    for (const { frames } of listeners) frames.length = 0;
    hub.publish(createEvent(5, "conversation.deleted"));
    hub.publish(createEvent(6));
    for (const { listTypes, expelledFrom } of listeners)
      expect({ types: listTypes(), expelledFrom }).toEqual({
        types: ["conversation.deleted"],
        expelledFrom: [conversation_id],
      });
    expect(hub.hasSubscribers(conversation_id)).toBe(false);
  });
});

describe("a join in progress", () => {
  test("fails after reading the position again if the user is removed", async () => {
    const hub = createTestHub();
    const { listener, frames } = createListener("late");
    const positionRead = Promise.withResolvers<void>();
    let readCount = 0;
    const joinPromise = hub.join(
      conversation_id,
      listener,
      async () => {
        readCount += 1;
        if (readCount === 2) throw new Error("no longer a member");
        await positionRead.promise;
        return { role: "member" as const, lastSeq: 0 };
      },
      () => {},
    );
    hub.publish(createEvent(1, "member.removed", "late"));
    positionRead.resolve();
    expect(joinPromise).rejects.toThrow("no longer a member");
    await joinPromise.catch(() => {});
    hub.publish(createEvent(2));
    await Promise.resolve();
    expect({ reads: readCount, frames, isOpen: hub.hasSubscribers(conversation_id) }).toEqual({
      reads: 2,
      frames: [],
      isOpen: false,
    });
  });

  test("reads the position again if another listener joins first, and misses no events", async () => {
    const hub = createTestHub();
    const [late, early] = [createListener("late"), createListener("early")];
    const positionRead = Promise.withResolvers<void>();
    const positions = [0, 3];
    const readPosition = async () => {
      const lastSeq = positions.shift() ?? Number.NaN;
      if (lastSeq === 0) await positionRead.promise;
      return { role: "member" as const, lastSeq };
    };
    const startSeqs: number[] = [];
    const joinPromise = hub.join(
      conversation_id,
      late.listener,
      readPosition,
      ({ lastSeq }, { missedEvents: missed }) => {
        startSeqs.push(lastSeq, ...missed.map(({ seq }) => seq));
      },
    );
    for (const seq of [1, 2]) hub.publish(createEvent(seq));
    await join(hub, early.listener, "member", 2);
    hub.publish(createEvent(3));
    positionRead.resolve();
    await joinPromise;
    hub.publish(createEvent(4));
    expect({ startSeqs, late: late.frames.map(({ seq }) => seq) }).toEqual({ startSeqs: [3], late: [4] });
    expect(early.frames.flatMap(({ seq }) => seq ?? [])).toEqual([3, 4]);
  });

  test("reads the role again if it changes", async () => {
    const hub = createTestHub();
    const { listener } = createListener("late");
    const roles: MemberRole[] = ["member", "viewer"];
    const positionRead = Promise.withResolvers<void>();
    const joinPromise = hub.join(
      conversation_id,
      listener,
      async () => {
        const role = roles.shift() ?? "owner";
        await positionRead.promise;
        return { role, lastSeq: 0 };
      },
      () => {},
    );
    hub.publish(createEvent(1, "member.added", "late", "viewer"));
    positionRead.resolve();
    await joinPromise;
    expect(hub.findRole(conversation_id, createNamedId("late"))).toBe("viewer");
  });
});

describe("events about members", () => {
  test("that happened before a listener joined have no effect on that listener", async () => {
    const hub = createTestHub();
    const [anna, ben] = [createListener("anna"), createListener("ben")];
    await join(hub, anna.listener, "member", 0);
    // Ben was removed (event 2) and added again (event 3) before he joins, while event 1 is still missing on this instance.
    hub.publish(createEvent(2, "member.removed", "ben"));
    await join(hub, ben.listener, "owner", 3);
    hub.publish(createEvent(1));
    hub.publish(createEvent(3, "member.added", "ben", "member"));
    expect(ben.expelledFrom).toEqual([]);
    expect(hub.findRole(conversation_id, createNamedId("ben"))).toBe("owner");
    hub.publish(createEvent(4, "member.added", "ben", "viewer"));
    expect(hub.findRole(conversation_id, createNamedId("ben"))).toBe("viewer");
    hub.publish(createEvent(5, "member.removed", "ben"));
    expect([ben.expelledFrom, anna.expelledFrom]).toEqual([[conversation_id], []]);
  });

  test("from another instance take effect when the gap is filled", async () => {
    const missed = [createEvent(1, "member.added", "anna", "viewer"), createEvent(2, "member.removed", "ben")];
    const hub = createTestHub({ loadEvents: async () => missed });
    const [anna, ben] = [createListener("anna"), createListener("ben")];
    for (const { listener } of [anna, ben]) await join(hub, listener);
    hub.publish(createEvent(3));
    while (anna.frames.at(-1)?.seq !== 3) await Bun.sleep(5);
    expect(ben.expelledFrom).toEqual([conversation_id]);
    expect(ben.frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2]);
    expect(hub.findRole(conversation_id, createNamedId("anna"))).toBe("viewer");
  });
});

describe("a room", () => {
  test("exists only while it has listeners or a join in progress", async () => {
    const hub = createTestHub();
    const { listener } = createListener("a");
    const failedJoin = hub.join(
      conversation_id,
      listener,
      () => Promise.reject(new Error("outsider")),
      () => {},
    );
    expect(hub.hasSubscribers(conversation_id)).toBe(true);
    await failedJoin.catch(() => {});
    await Promise.resolve();
    expect(hub.hasSubscribers(conversation_id)).toBe(false);
    await join(hub, listener);
    expect(hub.hasSubscribers(conversation_id)).toBe(true);
    hub.leave(conversation_id, listener);
    expect(hub.hasSubscribers(conversation_id)).toBe(false);
  });
});
