import { describe, expect, test } from "bun:test";
import type { MemberRole } from "../../src/protocol/conversation.ts";
import type { DurableEventType } from "../../src/protocol/events.ts";
import type { Listener } from "../../src/realtime/room.ts";
import { createTestEvent } from "../support/events.ts";
import { createTestHub, type TestHub } from "../support/hub.ts";

const conversation_id = "0190e6f0-0000-7000-8000-000000000000";
/** A user id from a name of at most six letters. */
const idOf = (name: string) => `0190e6f0-0000-7000-8000-${Buffer.from(name).toString("hex").padStart(12, "0")}`;
const eventOf = (seq: number, type?: DurableEventType, user?: string, role?: MemberRole) =>
  createTestEvent(conversation_id, seq, type, {
    ...(user !== undefined && { user_id: idOf(user) }),
    ...(role && { role }),
  });

function createListener(name: string) {
  const frames: { type: string; seq?: number }[] = [];
  const expelled: string[] = [];
  const listener: Listener = {
    userId: idOf(name),
    send: (text) => frames.push(JSON.parse(text)),
    onExpelled: (id) => expelled.push(id),
  };
  return { listener, frames, expelled, types: () => frames.map(({ type }) => type) };
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
      userId: idOf("broken"),
      send() {
        throw new Error("broken");
      },
    };
    for (const listener of [first.listener, broken, last.listener]) await join(hub, listener);
    hub.publish(eventOf(1));
    hub.publish({ type: "typing", conversation_id, user_id: idOf("first"), active: true, expires_in_ms: 1 });
    hub.publish(eventOf(2));
    for (const { frames } of [first, last]) expect(frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2]);
    expect(last.types()).toContain("typing");
  });
});

describe("losing access", () => {
  test("is pushed to the removed member even if an earlier event is missing, and nothing after it", async () => {
    const hub = createTestHub();
    const [gone, stays] = [createListener("gone"), createListener("stays")];
    for (const { listener } of [gone, stays]) await join(hub, listener);
    hub.publish(eventOf(1));
    hub.publish(eventOf(3, "member.removed", "gone"));
    hub.publish(eventOf(2));
    hub.publish(eventOf(4));
    const durable = ({ frames }: typeof gone) => frames.flatMap(({ seq }) => seq ?? []);
    expect({ gone: durable(gone), stays: durable(stays) }).toEqual({ gone: [1, 3], stays: [1, 2, 3, 4] });
    expect([gone.expelled, stays.expelled]).toEqual([[conversation_id], []]);
    expect(stays.frames).toContainEqual({
      type: "presence",
      conversation_id,
      user_id: idOf("gone"),
      online: false,
    } as never);
  });

  test("by deletion of the conversation ends it for all, without presence frames", async () => {
    const hub = createTestHub();
    const all = ["a", "b", "c"].map(createListener);
    for (const { listener } of all) await join(hub, listener);
    for (const { frames } of all) frames.length = 0;
    hub.publish(eventOf(5, "conversation.deleted"));
    hub.publish(eventOf(6));
    for (const { types, expelled } of all)
      expect({ types: types(), expelled }).toEqual({ types: ["conversation.deleted"], expelled: [conversation_id] });
    expect(hub.isHeard(conversation_id)).toBe(false);
  });

  test("makes a join in progress read again", async () => {
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
    hub.publish(eventOf(1, "member.removed", "late"));
    reading.resolve();
    expect(joined).rejects.toThrow("not a member any more");
    await joined.catch(() => {});
    hub.publish(eventOf(2));
    await Promise.resolve();
    expect({ reads, frames, isOpen: hub.isHeard(conversation_id) }).toEqual({
      reads: 2,
      frames: [],
      isOpen: false,
    });
  });

  test("while another listener joins first, a join reads again and misses nothing", async () => {
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
    const joined = hub.join(conversation_id, late.listener, read, ({ lastSeq }, { missed }) => {
      starts.push(lastSeq, ...missed.map(({ seq }) => seq));
    });
    for (const seq of [1, 2]) hub.publish(eventOf(seq));
    await join(hub, early.listener, "member", 2);
    hub.publish(eventOf(3));
    reading.resolve();
    await joined;
    hub.publish(eventOf(4));
    expect({ starts, late: late.frames.map(({ seq }) => seq) }).toEqual({ starts: [3], late: [4] });
    expect(early.frames.flatMap(({ seq }) => seq ?? [])).toEqual([3, 4]);
  });

  test("a role that changes meanwhile is read again as well", async () => {
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
    hub.publish(eventOf(1, "member.added", "late", "viewer"));
    reading.resolve();
    await joined;
    expect(hub.findRole(conversation_id, idOf("late"))).toBe("viewer");
  });
});

describe("events about members", () => {
  test("from before the listener's own read have no effect", async () => {
    const hub = createTestHub();
    const [old, back] = [createListener("old"), createListener("back")];
    await join(hub, old.listener, "member", 0);
    // Removed (2), added again (3), and listening again, while the event before is still missing here.
    hub.publish(eventOf(2, "member.removed", "back"));
    await join(hub, back.listener, "owner", 3);
    hub.publish(eventOf(1));
    hub.publish(eventOf(3, "member.added", "back", "member"));
    expect(back.expelled).toEqual([]);
    expect(hub.findRole(conversation_id, idOf("back"))).toBe("owner");
    hub.publish(eventOf(4, "member.added", "back", "viewer"));
    expect(hub.findRole(conversation_id, idOf("back"))).toBe("viewer");
    hub.publish(eventOf(5, "member.removed", "back"));
    expect([back.expelled, old.expelled]).toEqual([[conversation_id], []]);
  });

  test("written by another instance take effect when the gap is filled", async () => {
    const missed = [eventOf(1, "member.added", "member", "viewer"), eventOf(2, "member.removed", "gone")];
    const hub = createTestHub({ loadEvents: async () => missed });
    const [member, gone] = [createListener("member"), createListener("gone")];
    for (const { listener } of [member, gone]) await join(hub, listener);
    hub.publish(eventOf(3));
    while (member.frames.at(-1)?.seq !== 3) await Bun.sleep(5);
    expect(gone.expelled).toEqual([conversation_id]);
    expect(gone.frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2]);
    expect(hub.findRole(conversation_id, idOf("member"))).toBe("viewer");
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
    expect(hub.isHeard(conversation_id)).toBe(true);
    await failed.catch(() => {});
    await Promise.resolve();
    expect(hub.isHeard(conversation_id)).toBe(false);
    await join(hub, listener);
    expect(hub.isHeard(conversation_id)).toBe(true);
    hub.leave(conversation_id, listener);
    expect(hub.isHeard(conversation_id)).toBe(false);
  });
});
