import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createSite, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(2 * TEST_TIMEOUT_MS);

const SENDERS = 4;
const KILLS = 3;
/** Per sender and kill. The total is below the search's ranking limit. */
const SENDS_MAX = 35;
const INDEX_TIMEOUT_MS = 30_000;

let server: DatabaseServer | undefined;
afterAll(async () => void (await server?.stop()));

/** Sends messages one by one, and records the acknowledged ones. */
async function keepSending(rest: () => Rest, conversation: string, signal: AbortSignal, acked: string[]) {
  const path = `/conversations/${conversation}/messages`;
  for (let n = 0; n < SENDS_MAX && !signal.aborted; n += 1) {
    const answer = await rest()
      .request<{ message: { id: string } }>("POST", path, { content: `marimba ${n}`, reply: false })
      .catch(() => null);
    if (answer?.status === 201) acked.push(answer.body.message.id);
    else await Bun.sleep(50);
  }
}

test("after kills during indexing, each message is always found, once, and indexed once", async () => {
  server = await startDatabaseServer();
  const DATABASE_URL = await server.createDatabase();
  const site = await createSite({ env: { DATABASE_URL, RATE_LIMIT_ENABLED: "false" } });
  const sql = postgres(DATABASE_URL, { max: 2, onnotice: () => {} });
  try {
    let parley = await site.start();
    const account = await parley.register();
    const conversation = (await createConversation(parley, account)).id;
    const rest = () => createRest(parley, account);

    const findAll = async (): Promise<string[]> => {
      const found: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const page: string = `/search?q=marimba&limit=200${cursor && `&cursor=${cursor}`}`;
        const { status, body } = await rest().get<{ data: { message_id: string }[]; next_cursor: string | null }>(page);
        expect(status).toBe(200);
        found.push(...body.data.map(({ message_id }) => message_id));
        cursor = body.next_cursor;
      }
      return found.toSorted();
    };
    const listStored = async () =>
      (await sql<{ id: string }[]>`select id from messages order by id`).map(({ id }) => id);

    const acked: string[] = [];
    for (let kills = 0; kills < KILLS; kills += 1) {
      const sending = new AbortController();
      const senders = Array.from({ length: SENDERS }, () => keepSending(rest, conversation, sending.signal, acked));
      // Blocks the indexer in the middle of its batch, while it holds the index lock.
      const indexes = Promise.withResolvers<void>();
      const blocking = sql.begin(async (held) => {
        await held`lock table search_entries in exclusive mode`;
        for (;;) {
          const waiting = await held`
            select from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))`;
          if (waiting.length > 0) break;
          await Bun.sleep(20);
        }
        await parley.kill();
        indexes.resolve();
      });
      await indexes.promise;
      await blocking;
      sending.abort();
      await Promise.all(senders);
      parley = await site.start();
      const stored = await listStored();
      expect(await findAll()).toEqual(stored);
      expect(stored).toContainEqual(acked.at(-1) ?? "");
    }

    const endsAtMs = performance.now() + INDEX_TIMEOUT_MS;
    while ((await sql`select from search_outbox limit 1`).length > 0 && performance.now() < endsAtMs)
      await Bun.sleep(50);
    const stored = await listStored();
    expect(await findAll()).toEqual(stored);
    expect(stored).toEqual(expect.arrayContaining(acked));
    const [entries] = await sql`select count(*)::int as count from search_entries`;
    expect(entries?.count).toBe(stored.length);
    // Each message has exactly one index entry for its member.
    const [marks] = await sql`
      select count(*)::int as count from search_entries e
      where (select count(*) from unnest(tsvector_to_array(e.words)) w (word) where w.word like '.m%') = 1`;
    expect(marks?.count).toBe(stored.length);
  } finally {
    await sql.end();
    await site.remove();
  }
});
