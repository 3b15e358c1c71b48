import { expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import { createStreamRegistry, type StreamEnd } from "../../src/access/open-streams.ts";
import { createRevocations } from "../../src/modules/revocations/service.ts";
import type { Bus } from "../../src/realtime/bus.ts";

const SESSION_ID = "0193d8f0-0000-7000-8000-000000000001";

/** Creates one instance's revocations, with a fake database and a fake bus. */
function createTestRevocations() {
  const openStreams = createStreamRegistry();
  const deletedSessions = new Set<string>();
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
        return ids.filter((id) => deletedSessions.has(id));
      },
    },
    apiKeys: { findRevoked: async () => new Set() },
    conversations: { findLostMemberships: async () => [] },
    onError: (error: unknown) => {
      throw error;
    },
  } as unknown as Parameters<typeof createRevocations>[0]);
  return {
    revocations,
    lookups,
    /** Deletes the user with the session's row, and notifies the instance. */
    deleteUser() {
      deletedSessions.add(SESSION_ID);
      notify([SESSION_ID]);
    },
    openStream(): StreamEnd[] {
      const ends: StreamEnd[] = [];
      const caller = { credentialId: SESSION_ID, scopes: null, expiresAtMs: Number.POSITIVE_INFINITY } as Caller;
      openStreams.add({ caller, end: (end) => ends.push(end) });
      return ends;
    },
  };
}

test("the next check ends a stream that opened just after its session's revocation was announced", async () => {
  const { revocations, openStream, deleteUser } = createTestRevocations();
  const earlierEnds = openStream();
  await revocations.check();
  expect(earlierEnds).toEqual([]);
  deleteUser();
  expect(earlierEnds.map(({ reason }) => reason)).toEqual(["credential"]);
  // This stream's caller was authenticated before the deletion.
  const laterEnds = openStream();
  await revocations.check();
  expect(laterEnds.map(({ reason }) => reason)).toEqual(["credential"]);
});

test("a session is looked up once after its first stream opens, not in each check", async () => {
  const { revocations, openStream, lookups } = createTestRevocations();
  openStream();
  await revocations.check();
  await revocations.check();
  openStream();
  await revocations.check();
  expect(lookups).toEqual([[SESSION_ID]]);
});
