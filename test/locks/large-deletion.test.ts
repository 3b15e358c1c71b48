import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest } from "../support/rest.ts";
import { openSocket } from "../support/socket.ts";

const MESSAGES = 150_000;
/** Far below what the deletion takes. */
const UNDISTURBED_MS = 2_500;

let parley: TestApp;
let anna: Account;
beforeAll(async () => {
  parley = await startApp();
  anna = await parley.register();
});
afterAll(() => parley.stop());

test("a conversation of 150,000 messages is deleted at once, and erased without delaying anybody", async () => {
  const rest = createRest(parley, anna);
  const { id } = await createConversation(parley, anna);
  const { id: other } = await createConversation(parley, anna);
  await parley.database.begin(async (sql) => {
    // Without the triggers that check references, which take most of the time.
    await sql`set local session_replication_role = replica`;
    await sql`
      insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
      select gen_random_uuid(), ${id}, n, 'user', ${anna.user.id}, repeat('x', 100), n::text from generate_series(1, ${MESSAGES}) n`;
    await sql`
      insert into generations (conversation_id, id, message_id, message_seq, status, finished_at)
      select ${id}, gen_random_uuid(), id, seq, 'finished', now() from messages where conversation_id = ${id} and seq % 10 = 0`;
    await sql`update conversations set last_seq = ${MESSAGES} where id = ${id}`;
  });

  const socket = await openSocket(parley.url, { token: anna.access_token });
  await socket.ask({ type: "subscribe", conversation_id: id });
  const send = (conversationId: string) =>
    rest.ask("POST", `/conversations/${conversationId}/messages`, { content: "text", reply: false });
  const intoIt: number[] = [];
  const took: number[] = [];
  let isErased = false;
  const writers = [
    (async () => {
      while (!isErased) {
        intoIt.push((await send(id)).status);
        await Bun.sleep(10);
      }
    })(),
    (async () => {
      while (!isErased) {
        const startedAtMs = performance.now();
        expect((await send(other)).status).toBe(201);
        took.push(performance.now() - startedAtMs);
        await Bun.sleep(10);
      }
    })(),
  ];
  await Bun.sleep(200);
  const startedAtMs = performance.now();
  expect((await rest.ask("DELETE", `/conversations/${id}`)).status).toBe(204);
  expect(performance.now() - startedAtMs).toBeLessThan(UNDISTURBED_MS);
  await socket.waitFor(({ type }) => type === "conversation.deleted");
  expect((await rest.get(`/conversations/${id}`)).status).toBe(404);

  const isLeft = async () => {
    for (const table of ["messages", "generations", "events", "members"])
      if (
        (await parley.database`select 1 from ${parley.database(table)} where conversation_id = ${id} limit 1`).length >
        0
      )
        return true;
    return false;
  };
  while (await isLeft()) {
    if (performance.now() - startedAtMs > 60_000) throw new Error("It was not erased within a minute.");
    await Bun.sleep(100);
  }
  isErased = true;
  await Promise.all(writers);
  expect(new Set(intoIt)).toEqual(new Set([201, 404]));
  expect(Math.max(...took)).toBeLessThan(UNDISTURBED_MS);
  await socket.close();
}, 120_000);
