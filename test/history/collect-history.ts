import { createTestClient } from "../support/client.ts";
import { listConversations } from "../support/inbox.ts";
import type { Cluster } from "./cluster.ts";
import type { History, ViewComparison } from "./history.ts";
import type { Load } from "./load.ts";
import { readProgress, readStoredConversation } from "./read-stored.ts";

/** The maximum time to wait until the system has settled. A takeover alone can take 15 seconds. */
const SETTLE_TIMEOUT_MS = 30_000;
const POLL_MS = 50;

/**
 * Waits up to 30 seconds until no answer is in progress and every client is up to date. If they aren't by then, checkHistory
 * reports what is missing.
 */
export async function waitUntilSettled(cluster: Cluster, load: Load): Promise<ViewComparison[]> {
  await waitWhile(async () => (await readProgress(cluster.sql, load.conversationIds)).streamingCount > 0);
  await waitWhile(async () => {
    const { seqs } = await readProgress(cluster.sql, load.conversationIds);
    const isBehind = load.clients.some((client) =>
      Object.entries(client.listSeqs()).some(([id, seq]) => seq !== seqs[id]),
    );
    return isBehind || load.clients.some(({ isSettled }) => !isSettled);
  });
  let comparisons: ViewComparison[] = [];
  await waitWhile(async () => {
    comparisons = await compareViews(cluster, load);
    return comparisons.some(({ actual, expected }) => !Bun.deepEquals(actual, expected));
  });
  return comparisons;
}

async function waitWhile(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + SETTLE_TIMEOUT_MS;
  while ((await condition()) && performance.now() < deadlineMs) await Bun.sleep(POLL_MS);
}

/** Compares each client's inbox and online users with the stored state. */
async function compareViews(cluster: Cluster, { clients, conversationIds }: Load): Promise<ViewComparison[]> {
  const client = createTestClient(cluster.pickUrl(0));
  const listsByUserId = new Map<string, unknown>();
  for (const { userId, options } of clients)
    if (!listsByUserId.has(userId)) listsByUserId.set(userId, await listConversations(client, options.account));
  const inboxComparisons = clients.map(({ name, userId, inbox }) => ({
    name: `the inbox of ${name}`,
    actual: inbox.list(),
    expected: listsByUserId.get(userId),
  }));
  const findSubscribers = (id: string) =>
    clients.filter(({ views }) => views.some(({ conversationId }) => conversationId === id));
  const onlineComparisons = conversationIds.flatMap((id) => {
    const expected = [...new Set(findSubscribers(id).map(({ userId }) => userId))].sort();
    return findSubscribers(id).map((client) => ({
      name: `the online users of ${id} for ${client.name}`,
      actual: client.listOnline(id),
      expected,
    }));
  });
  return [...inboxComparisons, ...onlineComparisons];
}

/** Collects what the clients recorded and what is stored. */
export async function collectHistory(cluster: Cluster, load: Load, comparisons: ViewComparison[]): Promise<History> {
  const { clients, conversationIds } = load;
  return {
    sends: clients.flatMap(({ sends }) => sends),
    views: clients.flatMap(({ views }) => views),
    stored: await Promise.all(conversationIds.map((id) => readStoredConversation(cluster.sql, id))),
    comparisons,
    unexpectedFrames: clients.flatMap(({ unexpectedFrames }) => unexpectedFrames),
    permanentErrors: clients.flatMap(({ permanentErrors }) => permanentErrors),
  };
}
