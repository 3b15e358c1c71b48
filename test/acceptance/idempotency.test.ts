import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import type { Account } from "../support/client.ts";
import { createConversation, type TestConversation } from "../support/conversation.ts";
import { createRestClient } from "../support/rest.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, type Parley, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

type SendResponse = { message: { id: string }; code?: string };

let server: Awaited<ReturnType<typeof startDatabaseServer>>;
let sql: postgres.Sql;
let installation: Installation;
let parley: Parley;
let anna: Account;
let conversation: TestConversation;

beforeAll(async () => {
  server = await startDatabaseServer();
  const url = await server.createDatabase();
  sql = postgres(url, { max: 2 });
  installation = await createInstallation({
    env: { DATABASE_URL: url, JWT_SECRET: "a secret that survives restarts: 0123456789" },
  });
  parley = await installation.start();
  anna = await parley.register();
  conversation = await createConversation(parley, anna);
});
afterAll(async () => {
  await sql?.end();
  await installation?.remove();
  await server?.stop();
});

const postWithKey = <T>(path: string, json: object, key: string) =>
  createRestClient(parley, anna).request<T>("POST", path, json, { "idempotency-key": `"${key}"` });

test("a repeated request returns the stored response, even after a restart", async () => {
  const requestWithInvalidKey = () => postWithKey<{ id: string }>("/conversations", { title: "once" }, "a key");
  expect((await requestWithInvalidKey()).status).toBe(400);
  const createConversationOnce = () => postWithKey<{ id: string }>("/conversations", { title: "once" }, "one");
  const responses = await Promise.all([createConversationOnce(), createConversationOnce(), createConversationOnce()]);
  expect((await parley.stop()).code).toBe(0);
  parley = await installation.start();
  responses.push(await createConversationOnce());
  expect(responses.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
  expect(new Set(responses.map(({ body }) => body.id)).size).toBe(1);
  expect(responses.at(-1)?.headers.get("idempotent-replayed")).toBe("true");
  expect(responses.filter(({ headers }) => headers.get("idempotent-replayed") === null)).toHaveLength(1);
});

test("a message that is resent after Parley is killed is stored exactly once", async () => {
  const path = `/conversations/${conversation.id}/messages`;
  const sendMessage = () => postWithKey<SendResponse>(path, { content: "once" }, "two");
  const { promise: unlockRequested, resolve: unlock } = Promise.withResolvers<void>();
  const { promise: locked, resolve: markLocked } = Promise.withResolvers<void>();
  const lockTransaction = sql.begin(async (tx) => {
    await tx`select 1 from conversations where id = ${conversation.id} for update`;
    markLocked();
    await unlockRequested;
  });
  await locked;
  const firstRequest = sendMessage().catch((error: Error) => error);
  while ((await sql`select 1 from pg_stat_activity where wait_event_type = 'Lock'`).length === 0) await Bun.sleep(10);
  await parley.kill();
  expect(await firstRequest).toBeInstanceOf(Error);
  unlock();
  await lockTransaction;

  parley = await installation.start();
  // The first request's lease hasn't expired yet.
  const earlyRetry = await sendMessage();
  expect([earlyRetry.status, earlyRetry.body.code]).toEqual([409, "idempotency_in_progress"]);
  await sql`update idempotency_keys set lease_until = now() where ended_at is null`;
  const lateRetry = await sendMessage();
  expect(lateRetry.status).toBe(201);
  const rows = await sql`select id from messages where conversation_id = ${conversation.id}`;
  expect(rows.map(({ id }) => id)).toEqual([lateRetry.body.message.id]);
});
