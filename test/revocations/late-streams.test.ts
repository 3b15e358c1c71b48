import { expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import { createOpenStreams, type StreamEnd } from "../../src/access/open-streams.ts";
import { createRevocations } from "../../src/modules/revocations/service.ts";
import type { Bus } from "../../src/realtime/bus.ts";

const SESSION_ID = "0193d8f0-0000-7000-8000-000000000001";

/** One instance's revocations over a database in which these sessions are gone, with their users. */
function createWorld() {
  const openStreams = createOpenStreams();
  const gone = new Set<string>();
  const looks: string[][] = [];
  let tell: (ids: string[]) => void = () => {};
  const bus = {
    subscribe(channel: string, { onMessage }: { onMessage(message: { type: string; ids: string[] }): void }) {
      if (channel === "credentials") tell = (ids) => onMessage({ type: "credentials.ended", ids });
      return () => {};
    },
  } as unknown as Pick<Bus, "subscribe">;
  const revocations = createRevocations({
    openStreams,
    bus,
    auth: {
      forgetSessions: () => {},
      findEndedSessions: async () => [],
      async findEndedSessionsAmong(ids: string[]) {
        looks.push(ids);
        return ids.filter((id) => gone.has(id));
      },
    },
    apiKeys: { findEnded: async () => new Set() },
    conversations: { findLostMemberships: async () => [] },
    onFault: (error: unknown) => {
      throw error;
    },
  } as unknown as Parameters<typeof createRevocations>[0]);
  return {
    revocations,
    looks,
    /** The user is deleted: the row of the session goes, and the instances are told. */
    deleteUser() {
      gone.add(SESSION_ID);
      tell([SESSION_ID]);
    },
    open(): StreamEnd[] {
      const ends: StreamEnd[] = [];
      const caller = { credentialId: SESSION_ID, scopes: null, expiresAtMs: Number.POSITIVE_INFINITY } as Caller;
      openStreams.add({ caller, end: (why) => ends.push(why) });
      return ends;
    },
  };
}

test("a stream that opens just after the message about its session's end is found by the next look", async () => {
  const world = createWorld();
  const early = world.open();
  await world.revocations.check();
  expect(early).toEqual([]);
  world.deleteUser();
  expect(early.map(({ reason }) => reason)).toEqual(["credential"]);
  // Its caller was checked before the deletion.
  const late = world.open();
  await world.revocations.check();
  expect(late.map(({ reason }) => reason)).toEqual(["credential"]);
});

test("a session is looked for once after it opened its first stream, not at each look", async () => {
  const world = createWorld();
  world.open();
  await world.revocations.check();
  await world.revocations.check();
  world.open();
  await world.revocations.check();
  expect(world.looks).toEqual([[SESSION_ID]]);
});
