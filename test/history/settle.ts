import { createTestClient } from "../support/client.ts";
import { listShown } from "../support/inbox.ts";
import type { Load } from "./load.ts";
import type { History, Settled } from "./record.ts";
import { readProgress, readStored } from "./stored.ts";
import type { World } from "./world.ts";

/** The takeover of an answer takes up to 15 seconds, plus the rest of the answer. */
const REST_WAIT_MS = 30_000;
const POLL_MS = 50;

/**
 * Waits until nothing changes any more and every client is up to date, for 30 seconds at most; the checker reports what is
 * still missing.
 */
export async function waitForRest(world: World, load: Load): Promise<Settled[]> {
  await waitWhile(async () => (await readProgress(world.sql, load.conversations)).streaming > 0);
  await waitWhile(async () => {
    const { seqs } = await readProgress(world.sql, load.conversations);
    const isBehind = load.clients.some((client) =>
      Object.entries(client.listSeqs()).some(([id, seq]) => seq !== seqs[id]),
    );
    return isBehind || load.clients.some(({ isSettled }) => !isSettled);
  });
  let settled: Settled[] = [];
  await waitWhile(async () => {
    settled = await compare(world, load);
    return settled.some(({ shown, truth }) => !Bun.deepEquals(shown, truth));
  });
  return settled;
}

async function waitWhile(condition: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + REST_WAIT_MS;
  while ((await condition()) && performance.now() < endMs) await Bun.sleep(POLL_MS);
}

/** What each client shows, next to the stored state. */
async function compare(world: World, { clients, conversations }: Load): Promise<Settled[]> {
  const anyone = createTestClient(world.pickUrl(0));
  const lists = new Map<string, unknown>();
  for (const { userId, options } of clients)
    if (!lists.has(userId)) lists.set(userId, await listShown(anyone, options.account));
  const inboxes = clients.map(({ name, userId, inbox }) => ({
    what: `the inbox of ${name}`,
    shown: inbox.show(),
    truth: lists.get(userId),
  }));
  const watchersOf = (id: string) =>
    clients.filter(({ views }) => views.some(({ conversationId }) => conversationId === id));
  const online = conversations.flatMap((id) => {
    const truth = [...new Set(watchersOf(id).map(({ userId }) => userId))].sort();
    return watchersOf(id).map((client) => ({
      what: `online in ${id} for ${client.name}`,
      shown: client.listOnline(id),
      truth,
    }));
  });
  return [...inboxes, ...online];
}

export async function collectHistory(world: World, load: Load, settled: Settled[]): Promise<History> {
  const { clients, conversations } = load;
  return {
    sends: clients.flatMap(({ sends }) => sends),
    views: clients.flatMap(({ views }) => views),
    stored: await Promise.all(conversations.map((id) => readStored(world.sql, id))),
    settled,
    stray: clients.flatMap(({ stray }) => stray),
    refusals: clients.flatMap(({ refusals }) => refusals),
  };
}
