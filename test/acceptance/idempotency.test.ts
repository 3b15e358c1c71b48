import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import postgres from "postgres";
import type { Account } from "../support/client.ts";
import { createConversation, type TestConversation } from "../support/conversation.ts";
import { createRest } from "../support/rest.ts";
import { startDatabaseServer } from "./database-server.ts";
import { createSite, type Parley, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

type Sent = { message: { id: string }; code?: string };

let server: Awaited<ReturnType<typeof startDatabaseServer>>;
let sql: postgres.Sql;
let site: Site;
let parley: Parley;
let anna: Account;
let conversation: TestConversation;

beforeAll(async () => {
  server = await startDatabaseServer();
  const url = await server.createDatabase();
  sql = postgres(url, { max: 2 });
  site = await createSite({ env: { DATABASE_URL: url, JWT_SECRET: "the same one after every start: 0123456789" } });
  parley = await site.start();
  anna = await parley.register();
  conversation = await createConversation(parley, anna);
});
afterAll(async () => {
  await sql?.end();
  await site?.remove();
  await server?.stop();
});

const post = <T>(path: string, json: object, key: string) =>
  createRest(parley, anna).request<T>("POST", path, json, { "idempotency-key": `"${key}"` });

test("replays the stored response to a repeated request, also after a restart", async () => {
  const ask = () => post<{ id: string }>("/conversations", { title: "once" }, "a key");
  expect((await ask()).status).toBe(400);
  const create = () => post<{ id: string }>("/conversations", { title: "once" }, "one");
  const answers = await Promise.all([create(), create(), create()]);
  expect((await parley.stop()).code).toBe(0);
  parley = await site.start();
  answers.push(await create());
  expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  expect(answers.at(-1)?.headers.get("idempotent-replayed")).toBe("true");
  expect(answers.filter(({ headers }) => headers.get("idempotent-replayed") === null)).toHaveLength(1);
});

test("a kill during a send leaves exactly one message, whether the first or the repeated request stored it", async () => {
  const path = `/conversations/${conversation.id}/messages`;
  const send = () => post<Sent>(path, { content: "once" }, "two");
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: locked, resolve: onLocked } = Promise.withResolvers<void>();
  const lock = sql.begin(async (tx) => {
    await tx`select 1 from conversations where id = ${conversation.id} for update`;
    onLocked();
    await held;
  });
  await locked;
  const cut = send().catch((error: Error) => error);
  while ((await sql`select 1 from pg_stat_activity where wait_event_type = 'Lock'`).length === 0) await Bun.sleep(10);
  await parley.kill();
  expect(await cut).toBeInstanceOf(Error);
  release();
  await lock;

  parley = await site.start();
  // The first request's lease hasn't expired yet.
  const early = await send();
  expect([early.status, early.body.code]).toEqual([409, "idempotency_in_progress"]);
  await sql`update idempotency_keys set lease_until = now() where ended_at is null`;
  const late = await send();
  expect(late.status).toBe(201);
  const rows = await sql`select id from messages where conversation_id = ${conversation.id}`;
  expect(rows.map(({ id }) => id)).toEqual([late.body.message.id]);
});
