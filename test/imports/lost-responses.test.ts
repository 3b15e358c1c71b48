import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createChatGpt, importFile } from "../support/imports.ts";
import { createLossyDatabase } from "../support/lossy-database.ts";
import { createRest } from "../support/rest.ts";

let lossy: Awaited<ReturnType<typeof createLossyDatabase>>;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  lossy = await createLossyDatabase();
  parley = await startApp({ database: lossy });
  anna = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await lossy.end();
});

const chat = (id: string) => createChatGpt(id, { Question: {}, Answer: {} });

test.each([
  ["a conversation that was stored", "import_messages(", "stored", [chat("a"), chat("b"), chat("c")], 3],
  ["a conversation that was skipped", "import_notes", "SELECT 1", [7, chat("d"), chat("e")], 2],
] as const)(
  "an import continues when the response to %s is lost, and stores nothing twice",
  async (_, sent, received, file, count) => {
    const before = (await createRest(parley, anna).all<Conversation>("/conversations", 200)).rows.length;
    const isLost = lossy.lose(sent, received);
    const done = await importFile(parley, anna, "chatgpt", file);
    await isLost;
    expect(done).toMatchObject({
      status: "done",
      conversations: 3,
      imported: count,
      skipped: 3 - count,
      messages: 2 * count,
    });
    const { rows } = await createRest(parley, anna).all<Conversation>("/conversations", 200);
    expect(rows).toHaveLength(before + count);
  },
);
