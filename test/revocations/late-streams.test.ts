import { expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import { createOpenStreams, type StreamEnd } from "../../src/access/open-streams.ts";
import { createRevocations } from "../../src/modules/revocations/service.ts";
import type { Bus } from "../../src/realtime/bus.ts";

const SESSION_ID = "0193d8f0-0000-7000-8000-000000000001";

/** One instance's revocations, on a database where these sessions and their users are deleted. */
function createWorld() {
  const openStreams = createOpenStreams();
  const gone = new Set<string>();
  const lookups: string[][] = [];
  let notify: (ids: string[]) => void = () => {};
  const bus = {
    subscribe(channel: string, { onMessage }: { onMessage(message: { type: string; ids: string[] }): void }) {
      if (channel === "credentials") notify = (ids) => onMessage({ type: "credentials.ended", ids });
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
        lookups.push(ids);
        return ids.filter((id) => gone.has(id));
      },
    },
    apiKeys: { findEnded: async () => new Set() },
    conversations: { findLostMemberships: async () => [] },
    onError: (error: unknown) => {
      throw error;
    },
  } as unknown as Parameters<typeof createRevocations>[0]);
  return {
    revocations,
    lookups,
    /** The user is deleted: the session's row is gone, and the instances are notified. */
    deleteUser() {
      gone.add(SESSION_ID);
      notify([SESSION_ID]);
    },
    open(): StreamEnd[] {
      const ends: StreamEnd[] = [];
      const caller = { credentialId: SESSION_ID, scopes: null, expiresAtMs: Number.POSITIVE_INFINITY } as Caller;
      openStreams.add({ caller, end: (why) => ends.push(why) });
      return ends;
    },
  };
}

test("the next check finds a stream that opened just after the message about the end of its session", async () => {
  const world = createWorld();
  const early = world.open();
  await world.revocations.check();
  expect(early).toEqual([]);
  world.deleteUser();
  expect(early.map(({ reason }) => reason)).toEqual(["credential"]);
  // Its caller was authenticated before the deletion.
  const late = world.open();
  await world.revocations.check();
  expect(late.map(({ reason }) => reason)).toEqual(["credential"]);
});

test("a session is looked up once after its first stream opened, not in each check", async () => {
  const world = createWorld();
  world.open();
  await world.revocations.check();
  await world.revocations.check();
  world.open();
  await world.revocations.check();
  expect(world.lookups).toEqual([[SESSION_ID]]);
});
