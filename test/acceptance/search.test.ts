import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(2 * TEST_TIMEOUT_MS);

const SENDERS = 4;
const KILLS = 3;
/** The number of messages per sender and round. Their total number is below the search's ranking limit. */
const SENDS_PER_ROUND = 35;
const INDEX_TIMEOUT_MS = 30_000;

let server: DatabaseServer | undefined;
afterAll(async () => void (await server?.stop()));

/** Sends messages one by one, and records the ids of the acknowledged messages. */
async function sendMessages(rest: () => RestClient, conversationId: string, signal: AbortSignal, ackedIds: string[]) {
  const path = `/conversations/${conversationId}/messages`;
  for (let n = 0; n < SENDS_PER_ROUND && !signal.aborted; n += 1) {
    const response = await rest()
      .request<{ message: { id: string } }>("POST", path, { content: `marimba ${n}`, reply: false })
      .catch(() => null);
    if (response?.status === 201) ackedIds.push(response.body.message.id);
    else await Bun.sleep(50);
  }
}

test("each message is found and indexed exactly once, even after kills during indexing", async () => {
  server = await startDatabaseServer();
  const DATABASE_URL = await server.createDatabase();
  const installation = await createInstallation({ env: { DATABASE_URL, RATE_LIMIT_ENABLED: "false" } });
  const sql = postgres(DATABASE_URL, { max: 2, onnotice: () => {} });
  try {
    let parley = await installation.start();
    const account = await parley.register();
    const conversationId = (await createConversation(parley, account)).id;
    const createRest = () => createRestClient(parley, account);

    const findAllIds = async (): Promise<string[]> => {
      const foundIds: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const path: string = `/search?q=marimba&limit=200${cursor && `&cursor=${cursor}`}`;
        const { status, body } = await createRest().get<{ data: { message_id: string }[]; next_cursor: string | null }>(
          path,
        );
        expect(status).toBe(200);
        foundIds.push(...body.data.map(({ message_id }) => message_id));
        cursor = body.next_cursor;
      }
      return foundIds.toSorted();
    };
    const listStoredIds = async () =>
      (await sql<{ id: string }[]>`select id from messages order by id`).map(({ id }) => id);

    const ackedIds: string[] = [];
    for (let kills = 0; kills < KILLS; kills += 1) {
      const sendController = new AbortController();
      const senders = Array.from({ length: SENDERS }, () =>
        sendMessages(createRest, conversationId, sendController.signal, ackedIds),
      );
      // Blocks the indexer in the middle of a batch, then kills the server.
      const parleyExit = Promise.withResolvers<void>();
      const blockingTransaction = sql.begin(async (tx) => {
        await tx`lock table search_entries in exclusive mode`;
        for (;;) {
          const blockedBackends = await tx`
            select from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))`;
          if (blockedBackends.length > 0) break;
          await Bun.sleep(20);
        }
        await parley.kill();
        parleyExit.resolve();
      });
      await parleyExit.promise;
      await blockingTransaction;
      sendController.abort();
      await Promise.all(senders);
      parley = await installation.start();
      const storedIds = await listStoredIds();
      expect(await findAllIds()).toEqual(storedIds);
      expect(storedIds).toContainEqual(ackedIds.at(-1) ?? "");
    }

    const deadlineMs = performance.now() + INDEX_TIMEOUT_MS;
    while ((await sql`select from search_outbox limit 1`).length > 0 && performance.now() < deadlineMs)
      await Bun.sleep(50);
    const storedIds = await listStoredIds();
    expect(await findAllIds()).toEqual(storedIds);
    expect(storedIds).toEqual(expect.arrayContaining(ackedIds));
    const [entries] = await sql`select count(*)::int as count from search_entries`;
    expect(entries?.count).toBe(storedIds.length);
    // Each entry is indexed for exactly one member. Words that start with `.m` identify members.
    const [indexed] = await sql`
      select count(*)::int as count from search_entries e
      where (select count(*) from unnest(tsvector_to_array(e.words)) w (word) where w.word like '.m%') = 1`;
    expect(indexed?.count).toBe(storedIds.length);
  } finally {
    await sql.end();
    await installation.remove();
  }
});
