import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { startApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestDatabase } from "../support/postgres.ts";

setDefaultTimeout(90_000);
let provider: MockProvider;
beforeAll(() => {
  provider = startMockProvider();
});
afterAll(() => provider.stop());

/** An answer would fail after this many interruptions (src/modules/generations/final-states.ts). */
const RESTARTS = 5;

test("an answer is completed even if one instance after another shuts down while generating it", async () => {
  const options = {
    database: await createTestDatabase(10),
    config: { COMPATIBLE_BASE_URL: provider.openaiUrl, AI_MODELS: "compatible/one", AI_MAX_RETRIES: "0" },
  };
  const { database } = options.database;
  provider.script("one", { pieces: Array.from({ length: 3_000 }, (_, n) => `w${n} `), pieceDelayMs: 20 });
  let parley = await startApp(options);
  const anna = await parley.register();
  const { id } = await createConversation(parley, anna);
  const sendResponse = await parley.fetch(`/api/v1/conversations/${id}/messages`, {
    token: anna.access_token,
    json: { content: "Talk to me.", reply: true },
  });
  const { reply } = (await sendResponse.json()) as { reply: { id: string } };
  for (let restarts = 1; restarts <= RESTARTS; restarts += 1) {
    while (provider.listRequests("one").length < restarts) await Bun.sleep(20);
    await Bun.sleep(100);
    await parley.stop();
    if (restarts === RESTARTS) provider.script("one", { text: "and the end." });
    parley = await startApp(options);
  }
  type Row = { status: string; content: string; interruptions: number };
  const getAnswer = async () => {
    const [row] = await database<Row[]>`
      select m.status, m.content, g.interruptions from messages m join generations g on g.message_id = m.id
      where m.id = ${reply.id}`;
    return row;
  };
  while ((await getAnswer())?.status === "streaming") await Bun.sleep(50);
  expect(await getAnswer()).toMatchObject({ status: "complete", interruptions: 0 });
  expect((await getAnswer())?.content).toEndWith("and the end.");
  await parley.stop();
  await database.end({ timeout: 1 });
});
