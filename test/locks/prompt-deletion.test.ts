import { afterAll, beforeAll, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";

/** More conversations than a single statement updates. */
const CONVERSATION_COUNT = 2_500;
/** Sending a message takes longer than this if it has to wait for the lock. */
const UNDELAYED_MS_MAX = 1_500;

let parley: TestApp;
let anna: RestClient;
beforeAll(async () => {
  parley = await startApp();
  anna = createRestClient(parley, await parley.register());
});
afterAll(() => parley.stop());

test("a prompt in use by a locked conversation is deleted immediately, without delaying other requests", async () => {
  const { body: prompt } = await anna.request<{ id: string }>("POST", "/prompts", { name: "p", template: "Be brief." });
  const { id: lockedId } = await createConversation(parley, anna.account, [], { prompt_id: prompt.id });
  const { id: otherId } = await createConversation(parley, anna.account, [], { prompt_id: prompt.id });
  const sql = parley.database;
  await sql`
    insert into conversations (id, kind, reply_mode, prompt_id)
    select gen_random_uuid(), 'group', 'never', ${prompt.id} from generate_series(1, ${CONVERSATION_COUNT})`;
  const deletePrompt = () => anna.request("DELETE", `/prompts/${prompt.id}`);
  const measureSend = async () => {
    const startedAtMs = performance.now();
    const { status } = await anna.request("POST", `/conversations/${otherId}/messages`, {
      content: "text",
      reply: false,
    });
    expect(status).toBe(201);
    return performance.now() - startedAtMs;
  };
  const listConversationsUsingPrompt = async () =>
    (await sql<{ id: string }[]>`select id from conversations where prompt_id = ${prompt.id}`).map(({ id }) => id);
  await sql.begin(async (transaction) => {
    await transaction`select 1 from conversations where id = ${lockedId} for update`;
    const deletions = Promise.all(Array.from({ length: 15 }, deletePrompt));
    const durationsMs = [await measureSend(), await measureSend(), await measureSend()];
    const statuses = (await deletions).map(({ status }) => status).sort();
    expect(statuses).toEqual([204, ...Array.from({ length: 14 }, () => 404)]);
    expect(Math.max(...durationsMs)).toBeLessThan(UNDELAYED_MS_MAX);
    expect((await anna.get(`/prompts/${prompt.id}`)).status).toBe(404);
    expect((await anna.get<{ data: unknown[] }>("/prompts")).body.data).toEqual([]);
    const response = await anna.request("POST", "/conversations", { title: "t", prompt_id: prompt.id });
    expect(response.status).toBe(422);
    // A conversation that was locked because a message was being sent is updated slightly later.
    for (let waits = 0; waits < 100 && (await listConversationsUsingPrompt()).length > 1; waits += 1)
      await Bun.sleep(50);
    expect(await listConversationsUsingPrompt()).toEqual([lockedId]);
  });
  while ((await listConversationsUsingPrompt()).length > 0) await Bun.sleep(50);
  while ((await sql`select 1 from prompts`).length > 0) await Bun.sleep(50);
  expect((await anna.get(`/conversations/${lockedId}`)).body).toMatchObject({ prompt_id: null });
}, 30_000);
