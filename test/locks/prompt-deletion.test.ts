import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

/** More than one statement removes the prompt from. */
const CONVERSATIONS = 2_500;
/** Below the lock timeout. */
const UNDISTURBED_MS = 1_500;

let parley: TestApp;
let anna: Rest;
beforeAll(async () => {
  parley = await startApp();
  anna = createRest(parley, await parley.register());
});
afterAll(() => parley.stop());

test("a prompt that a locked conversation uses is deleted at once, without delaying others", async () => {
  const { body: prompt } = await anna.request<{ id: string }>("POST", "/prompts", { name: "p", template: "Be brief." });
  const { id: locked } = await createConversation(parley, anna.account, [], { prompt_id: prompt.id });
  const { id: other } = await createConversation(parley, anna.account, [], { prompt_id: prompt.id });
  const sql = parley.database;
  await sql`
    insert into conversations (id, kind, reply_mode, prompt_id)
    select gen_random_uuid(), 'group', 'never', ${prompt.id} from generate_series(1, ${CONVERSATIONS})`;
  const remove = () => anna.request("DELETE", `/prompts/${prompt.id}`);
  const send = async () => {
    const startedAtMs = performance.now();
    const { status } = await anna.request("POST", `/conversations/${other}/messages`, {
      content: "text",
      reply: false,
    });
    expect(status).toBe(201);
    return performance.now() - startedAtMs;
  };
  const listUsing = async () =>
    (await sql<{ id: string }[]>`select id from conversations where prompt_id = ${prompt.id}`).map(({ id }) => id);
  await sql.begin(async (held) => {
    await held`select 1 from conversations where id = ${locked} for update`;
    const removals = Promise.all(Array.from({ length: 15 }, remove));
    const took = [await send(), await send(), await send()];
    const statuses = (await removals).map(({ status }) => status).sort();
    expect(statuses).toEqual([204, ...Array.from({ length: 14 }, () => 404)]);
    expect(Math.max(...took)).toBeLessThan(UNDISTURBED_MS);
    expect((await anna.get(`/prompts/${prompt.id}`)).status).toBe(404);
    expect((await anna.get<{ data: unknown[] }>("/prompts")).body.data).toEqual([]);
    const again = await anna.request("POST", "/conversations", { title: "t", prompt_id: prompt.id });
    expect(again.status).toBe(422);
    // A conversation that a send had locked at that moment is updated a little later.
    for (let waits = 0; waits < 100 && (await listUsing()).length > 1; waits += 1) await Bun.sleep(50);
    expect(await listUsing()).toEqual([locked]);
  });
  while ((await listUsing()).length > 0) await Bun.sleep(50);
  while ((await sql`select 1 from prompts`).length > 0) await Bun.sleep(50);
  expect((await anna.get(`/conversations/${locked}`)).body).toMatchObject({ prompt_id: null });
}, 30_000);
