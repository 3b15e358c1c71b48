import { afterEach, expect, test } from "bun:test";
import { once } from "node:events";
import { connect } from "node:net";
import { createId } from "../../src/lib/id.ts";
import type { TestApp } from "../support/app.ts";
import { startApp } from "../support/app.ts";
import type { Account, FetchOptions } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { waitUntil } from "../support/wait-until.ts";

let parley: TestApp;
afterEach(() => parley.stop());

const startParley = async (config: Record<string, string> = {}) => {
  parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", ...config } });
};
const sendRequest = async ({ access_token: token }: Account, path: string, options: FetchOptions = {}) => {
  const response = await parley.fetch(`/api/v1${path}`, { token, ...options });
  return { status: response.status, headers: response.headers, text: await response.text() };
};
/** Blocks searches until the returned function is called. */
async function blockSearches(): Promise<() => Promise<void>> {
  const unlocked = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<void>();
  const transaction = parley.database.begin(async (sql) => {
    await sql`lock table documents in access exclusive mode`;
    locked.resolve();
    await unlocked.promise;
  });
  await locked.promise;
  return async () => {
    unlocked.resolve();
    await transaction;
  };
}
const countWaitingSearches = async (): Promise<number> => {
  const [row] = await parley.database<{ count: number }[]>`
    select count(*)::int as count from pg_locks where relation = 'documents'::regclass and not granted`;
  return row?.count ?? 0;
};

test("a user's fifth concurrent search is rejected, while another user's export and reads continue", async () => {
  await startParley();
  const [anna, ben] = [await parley.register(), await parley.register()];
  const releaseSearches = await blockSearches();
  // A request is recognized as a search even if `q` is repeated and one value is empty.
  const paths = ["?q=limits", "?q=&q=limits", "?q=limits", "?q=&q=limits"];
  const pendingSearches = paths.map((search) => sendRequest(anna, `/documents${search}`));
  await waitUntil(async () => (await countWaitingSearches()) === 4);
  const fifthResponse = await sendRequest(anna, "/documents?q=limits");
  expect(fifthResponse.status).toBe(429);
  expect(JSON.parse(fifthResponse.text)).toMatchObject({ code: "rate_limited" });
  expect(Number(fifthResponse.headers.get("retry-after"))).toBeWithin(1, 3);
  expect((await sendRequest(anna, "/me/export")).status).toBe(429);
  expect((await sendRequest(anna, "/me")).status).toBe(200);
  expect((await sendRequest(ben, "/me/export")).status).toBe(200);
  await releaseSearches();
  expect((await Promise.all(pendingSearches)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  for (let n = 0; n < 5; n += 1) expect((await sendRequest(anna, "/documents?q=limits")).status).toBe(200);
  expect(await (await parley.fetch("/metrics")).text()).toContain(
    'parley_rate_limited_total{limit="expensive_reads"} 2',
  );
});

test("a rejected or failed request releases its slot, and a read without a search needs no slot", async () => {
  await startParley({ RATE_LIMIT_EXPENSIVE_READS_PER_USER: "1" });
  const anna = await parley.register();
  const invalidRequests = Array.from({ length: 3 }, () => sendRequest(anna, "/documents?q=x&limit=0x"));
  expect((await Promise.all(invalidRequests)).map(({ status }) => status)).toEqual([422, 422, 422]);
  for (let n = 0; n < 3; n += 1)
    expect((await sendRequest(anna, `/prompts/${createId()}/preview`, { method: "POST" })).status).toBe(404);
  const releaseSearches = await blockSearches();
  const pendingSearch = sendRequest(anna, "/documents?q=limits");
  await waitUntil(async () => (await countWaitingSearches()) === 1);
  expect((await sendRequest(anna, "/documents/none.md")).status).toBe(404);
  await releaseSearches();
  expect((await pendingSearch).status).toBe(200);
  expect((await sendRequest(anna, "/documents?q=limits")).status).toBe(200);
});

/** Requests an export, and reads only its beginning. */
async function openExport({ access_token }: Account) {
  const { port, hostname } = new URL(parley.url);
  const socket = connect({ port: Number(port), host: hostname });
  socket.write(`GET /api/v1/me/export HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access_token}\r\n\r\n`);
  const [head] = (await once(socket, "data")) as [Buffer];
  socket.pause();
  expect(String(head)).toStartWith("HTTP/1.1 200");
  return socket;
}

test("a user can have one export at a time, even if it downloads slowly, and disconnecting releases its slot", async () => {
  await startParley();
  const [anna, ben] = [await parley.register(), await parley.register()];
  const { id } = await createConversation(parley, anna);
  // This is more data than the client's and the server's buffers can hold.
  await parley.database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, n, 'user', ${anna.user.id}, repeat('x', 100000) from generate_series(1, 400) n`;
  const isExportRejected = async () => {
    const response = await parley.fetch("/api/v1/me/export", { token: anna.access_token });
    if (response.status === 429) expect(await response.json()).toMatchObject({ code: "rate_limited" });
    else await response.body?.cancel();
    return response.status === 429;
  };
  const slowExport = await openExport(anna);
  expect(await isExportRejected()).toBe(true);
  await Bun.sleep(1_000);
  expect(await isExportRejected()).toBe(true);
  expect((await sendRequest(ben, "/me/export")).status).toBe(200);
  // Searches don't use the export slot.
  expect((await sendRequest(anna, "/documents?q=limits")).status).toBe(200);
  slowExport.destroy();
  await waitUntil(async () => !(await isExportRejected()));
});

test("a HEAD request for an export doesn't keep the slot", async () => {
  await startParley();
  const anna = await parley.register();
  for (let n = 0; n < 6; n += 1) {
    const { status } = await sendRequest(anna, "/me/export", { method: "HEAD" });
    expect(status).toBe(200);
  }
  expect((await sendRequest(anna, "/me/export")).status).toBe(200);
});

test("no search is rejected if limits are disabled", async () => {
  await startParley({ RATE_LIMIT_ENABLED: "false" });
  const anna = await parley.register();
  const releaseSearches = await blockSearches();
  const pendingSearches = Array.from({ length: 6 }, () => sendRequest(anna, "/documents?q=limits"));
  await waitUntil(async () => (await countWaitingSearches()) === 6);
  await releaseSearches();
  expect((await Promise.all(pendingSearches)).map(({ status }) => status)).toEqual(Array(6).fill(200));
});
