import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Conversation } from "../../src/protocol/conversation.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createDatabaseWithLostResponses } from "../support/database-with-lost-responses.ts";
import { createChatGptConversation, importFile } from "../support/imports.ts";
import { createRestClient } from "../support/rest.ts";

let lossyDatabase: Awaited<ReturnType<typeof createDatabaseWithLostResponses>>;
let parley: TestApp;
let anna: Account;

beforeAll(async () => {
  lossyDatabase = await createDatabaseWithLostResponses();
  parley = await startApp({ database: lossyDatabase });
  anna = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await lossyDatabase.end();
});

const createChat = (id: string) => createChatGptConversation(id, { Question: {}, Answer: {} });

test.each([
  ["storing a conversation", "import_messages(", "stored", [createChat("a"), createChat("b"), createChat("c")], 3],
  ["recording a skipped conversation", "import_notes", "SELECT 1", [7, createChat("d"), createChat("e")], 2],
] as const)(
  "an import continues if the database's response to %s is lost, and stores nothing twice",
  async (_, statement, lostResponse, file, count) => {
    const countBefore = (await createRestClient(parley, anna).listAll<Conversation>("/conversations", 200)).rows.length;
    const responseLost = lossyDatabase.loseNextResponse(statement, lostResponse);
    const result = await importFile(parley, anna, "chatgpt", file);
    await responseLost;
    expect(result).toMatchObject({
      status: "done",
      conversations: 3,
      imported: count,
      skipped: 3 - count,
      messages: 2 * count,
    });
    const { rows } = await createRestClient(parley, anna).listAll<Conversation>("/conversations", 200);
    expect(rows).toHaveLength(countBefore + count);
  },
);
