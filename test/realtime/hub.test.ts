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
  const expelled: string[] = [];
  const listener: Listener = {
    userId: createNamedId(name),
    send: (text) => frames.push(JSON.parse(text)),
    onExpelled: (id) => expelled.push(id),
  };
  return { listener, frames, expelled, listTypes: () => frames.map(({ type }) => type) };
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
    const [first, last] = [createListener("first"), createListener("last")];
    const broken: Listener = {
      userId: createNamedId("broken"),
      send() {
        throw new Error("broken");
      },
    };
    for (const listener of [first.listener, broken, last.listener]) await join(hub, listener);
    hub.publish(createEvent(1));
    hub.publish({ type: "typing", conversation_id, user_id: createNamedId("first"), active: true, expires_in_ms: 1 });
    hub.publish(createEvent(2));
    for (const { frames } of [first, last]) expect(frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2]);
    expect(last.listTypes()).toContain("typing");
  });
});

describe("losing access", () => {
  test("ends pushes to a removed member with the removal, even if an earlier event is missing", async () => {
    const hub = createTestHub();
    const [anna, ben] = [createListener("anna"), createListener("ben")];
    for (const { listener } of [ben, anna]) await join(hub, listener);
    hub.publish(createEvent(1));
    hub.publish(createEvent(3, "member.removed", "ben"));
    hub.publish(createEvent(2));
    hub.publish(createEvent(4));
    const listSeqs = ({ frames }: typeof anna) => frames.flatMap(({ seq }) => seq ?? []);
    expect({ ben: listSeqs(ben), anna: listSeqs(anna) }).toEqual({ ben: [1, 3], anna: [1, 2, 3, 4] });
    expect([ben.expelled, anna.expelled]).toEqual([[conversation_id], []]);
    expect(anna.frames).toContainEqual({
      type: "presence",
      conversation_id,
      user_id: createNamedId("ben"),
      online: false,
    } as never);
  });

  test("when a conversation is deleted disconnects all listeners, without presence frames", async () => {
    const hub = createTestHub();
    const all = ["a", "b", "c"].map(createListener);
    for (const { listener } of all) await join(hub, listener);
    for (const { frames } of all) frames.length = 0;
    hub.publish(createEvent(5, "conversation.deleted"));
    hub.publish(createEvent(6));
    for (const { listTypes, expelled } of all)
      expect({ types: listTypes(), expelled }).toEqual({
        types: ["conversation.deleted"],
        expelled: [conversation_id],
      });
    expect(hub.hasSubscribers(conversation_id)).toBe(false);
  });
});

describe("a join in progress", () => {
  test("reads the position again if the user is removed, and fails", async () => {
    const hub = createTestHub();
    const { listener, frames } = createListener("late");
    const reading = Promise.withResolvers<void>();
    let reads = 0;
    const joined = hub.join(
      conversation_id,
      listener,
      async () => {
        reads += 1;
        if (reads === 2) throw new Error("not a member any more");
        await reading.promise;
        return { role: "member" as const, lastSeq: 0 };
      },
      () => {},
    );
    hub.publish(createEvent(1, "member.removed", "late"));
    reading.resolve();
    expect(joined).rejects.toThrow("not a member any more");
    await joined.catch(() => {});
    hub.publish(createEvent(2));
    await Promise.resolve();
    expect({ reads, frames, isOpen: hub.hasSubscribers(conversation_id) }).toEqual({
      reads: 2,
      frames: [],
      isOpen: false,
    });
  });

  test("reads the position again if another listener joins first, and misses no events", async () => {
    const hub = createTestHub();
    const [late, early] = [createListener("late"), createListener("early")];
    const reading = Promise.withResolvers<void>();
    const positions = [0, 3];
    const read = async () => {
      const lastSeq = positions.shift() ?? Number.NaN;
      if (lastSeq === 0) await reading.promise;
      return { role: "member" as const, lastSeq };
    };
    const starts: number[] = [];
    const joined = hub.join(conversation_id, late.listener, read, ({ lastSeq }, { missedEvents: missed }) => {
      starts.push(lastSeq, ...missed.map(({ seq }) => seq));
    });
    for (const seq of [1, 2]) hub.publish(createEvent(seq));
    await join(hub, early.listener, "member", 2);
    hub.publish(createEvent(3));
    reading.resolve();
    await joined;
    hub.publish(createEvent(4));
    expect({ starts, late: late.frames.map(({ seq }) => seq) }).toEqual({ starts: [3], late: [4] });
    expect(early.frames.flatMap(({ seq }) => seq ?? [])).toEqual([3, 4]);
  });

  test("reads the role again if it changes", async () => {
    const hub = createTestHub();
    const { listener } = createListener("late");
    const roles: MemberRole[] = ["member", "viewer"];
    const reading = Promise.withResolvers<void>();
    const joined = hub.join(
      conversation_id,
      listener,
      async () => {
        const role = roles.shift() ?? "owner";
        await reading.promise;
        return { role, lastSeq: 0 };
      },
      () => {},
    );
    hub.publish(createEvent(1, "member.added", "late", "viewer"));
    reading.resolve();
    await joined;
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
    expect(ben.expelled).toEqual([]);
    expect(hub.findRole(conversation_id, createNamedId("ben"))).toBe("owner");
    hub.publish(createEvent(4, "member.added", "ben", "viewer"));
    expect(hub.findRole(conversation_id, createNamedId("ben"))).toBe("viewer");
    hub.publish(createEvent(5, "member.removed", "ben"));
    expect([ben.expelled, anna.expelled]).toEqual([[conversation_id], []]);
  });

  test("from another instance take effect when the gap is filled", async () => {
    const missed = [createEvent(1, "member.added", "anna", "viewer"), createEvent(2, "member.removed", "ben")];
    const hub = createTestHub({ loadEvents: async () => missed });
    const [anna, ben] = [createListener("anna"), createListener("ben")];
    for (const { listener } of [anna, ben]) await join(hub, listener);
    hub.publish(createEvent(3));
    while (anna.frames.at(-1)?.seq !== 3) await Bun.sleep(5);
    expect(ben.expelled).toEqual([conversation_id]);
    expect(ben.frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2]);
    expect(hub.findRole(conversation_id, createNamedId("anna"))).toBe("viewer");
  });
});

describe("a room", () => {
  test("exists only while it has listeners or a join in progress", async () => {
    const hub = createTestHub();
    const { listener } = createListener("a");
    const failed = hub.join(
      conversation_id,
      listener,
      () => Promise.reject(new Error("outsider")),
      () => {},
    );
    expect(hub.hasSubscribers(conversation_id)).toBe(true);
    await failed.catch(() => {});
    await Promise.resolve();
    expect(hub.hasSubscribers(conversation_id)).toBe(false);
    await join(hub, listener);
    expect(hub.hasSubscribers(conversation_id)).toBe(true);
    hub.leave(conversation_id, listener);
    expect(hub.hasSubscribers(conversation_id)).toBe(false);
  });
});
