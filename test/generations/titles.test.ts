import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { cleanTitle, GENERATED_TITLE_CHARS_MAX } from "../../src/modules/generations/titles.ts";
import { type Account, startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;

beforeAll(async () => {
  app = await startModelApp({ AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await app.parley.register();
});
afterAll(() => app.stop());
afterEach(() => app.provider.reset());

const findTitle = async (id: string, modelApp = app): Promise<string> => {
  const [row] = await modelApp.parley.database<{ title: string }[]>`select title from conversations where id = ${id}`;
  return row?.title ?? "";
};
const waitForTitle = (id: string, modelApp = app) =>
  modelApp.waitForValue(async () => (await findTitle(id, modelApp)) || undefined);
const setTitle = (id: string, title: string) =>
  app.parley.fetch(`/api/v1/conversations/${id}`, { method: "PATCH", token: anna.access_token, json: { title } });

test("a new conversation receives a title after its first answer, and the title is pushed in an event", async () => {
  app.provider.script("cheap", { text: '# "The Sea at Night."\nAnd more.' });
  const { id } = await app.createConversation(anna, [], { title: "" });
  const socket = await openSocket(app.parley.url, { token: anna.access_token });
  await socket.request({ type: "subscribe", conversation_id: id });
  await app.sendMessage(anna, id, "Why does the sea glow?");
  const event = await socket.waitFor(({ type }) => type === "conversation.updated");
  expect(event.data).toMatchObject({ id, title: "The Sea at Night" });
  expect(socket.frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2, 3, 4]);
  const request = JSON.stringify(app.provider.listRequests("cheap")[0]?.body.messages);
  expect(request).toContain("Why does the sea glow?");
  expect(request).toContain("provider answers");
  await app.sendMessage(anna, id, "And the sky?");
  await Bun.sleep(100);
  expect(app.provider.listRequests("cheap")).toHaveLength(1);
  expect(await findTitle(id)).toBe("The Sea at Night");
  await socket.close();
});

test("the requester is charged for the title", async () => {
  const requester = await app.parley.register();
  const countTokens = async () => {
    const response = await app.parley.fetch("/api/v1/me/usage", { token: requester.access_token });
    return ((await response.json()) as { day: { spent_tokens: number } }).day.spent_tokens;
  };
  const titledConversation = await app.createConversation(requester, [], { title: "Mine" });
  await app.sendMessage(requester, titledConversation.id, "Why does the sea glow?");
  const answerTokens = await countTokens();
  expect(answerTokens).toBeGreaterThan(0);
  const { id } = await app.createConversation(requester, [], { title: "" });
  await app.sendMessage(requester, id, "Why does the sea glow?");
  await waitForTitle(id);
  expect(await countTokens()).toBeGreaterThan(answerTokens * 2);
});

test("a title that a user has set or removed isn't replaced", async () => {
  const titledConversation = await app.createConversation(anna, [], { title: "Mine" });
  await app.sendMessage(anna, titledConversation.id, "Hello");
  const clearedConversation = await app.createConversation(anna, [], { title: "" });
  await setTitle(clearedConversation.id, "");
  await app.sendMessage(anna, clearedConversation.id, "Hello");
  await Bun.sleep(100);
  expect(app.provider.listRequests("cheap")).toHaveLength(0);
  app.provider.script("cheap", { text: "The model's", firstDelayMs: 200 });
  const changedConversation = await app.createConversation(anna, [], { title: "" });
  await app.sendMessage(anna, changedConversation.id, "Hello");
  await app.waitForValue(() => app.provider.listRequests("cheap").at(0));
  await setTitle(changedConversation.id, "The user's");
  await Bun.sleep(400);
  expect([
    await findTitle(titledConversation.id),
    await findTitle(clearedConversation.id),
    await findTitle(changedConversation.id),
  ]).toEqual(["Mine", "", "The user's"]);
});

test("if the model fails, the title is the beginning of the question", async () => {
  app.provider.script("cheap", { fault: "status", status: 400 });
  const { id } = await app.createConversation(anna, [], { title: "" });
  const { reply } = await app.sendMessage(anna, id, `What is ${"very ".repeat(40)}long?`);
  expect(reply?.status).toBe("complete");
  const title = await waitForTitle(id);
  expect(title).toStartWith("What is very very");
  expect(title).toEndWith("…");
  expect(title.length).toBeLessThanOrEqual(GENERATED_TITLE_CHARS_MAX);
});

test("if no model can write titles, the title is the beginning of the question", async () => {
  const offlineApp = await startModelApp({ AI_MODELS: "offline/documents" });
  const carl = await offlineApp.parley.register();
  const { id } = await offlineApp.createConversation(carl, [], { title: "" });
  await offlineApp.sendMessage(carl, id, "**How** do I\nback up?");
  expect(await waitForTitle(id, offlineApp)).toBe("How do I");
  await offlineApp.stop();
});

test("a conversation receives no title after a failed answer", async () => {
  const { id } = await app.createConversation(anna, [], { title: "" });
  app.provider.script("one", { fault: "status", status: 400 });
  app.provider.script("cheap", { fault: "status", status: 400 });
  expect((await app.sendMessage(anna, id, "Hello")).reply?.status).toBe("failed");
  await Bun.sleep(100);
  expect(await findTitle(id)).toBe("");
});

test("two instances that complete answers at the same time request only one title", async () => {
  app.provider.script("cheap", { text: "Once", firstDelayMs: 50 });
  const testDatabase = await createTestDatabase(10);
  const options = {
    database: testDatabase,
    config: {
      COMPATIBLE_BASE_URL: app.provider.openaiUrl,
      AI_MODELS: "compatible/one,compatible/cheap",
      AI_MAX_RETRIES: "0",
    },
  };
  const firstInstance = await startApp(options);
  const secondInstance = await startApp(options);
  const { access_token: token } = await firstInstance.register();
  const creationResponse = await firstInstance.fetch("/api/v1/conversations", { token, json: {} });
  const { id } = (await creationResponse.json()) as { id: string };
  const sendPromises = Array.from({ length: 6 }, (_, n) =>
    (n % 2 === 0 ? firstInstance : secondInstance).fetch(`/api/v1/conversations/${id}/messages`, {
      token,
      json: { content: `Question ${n}` },
    }),
  );
  await Promise.all(sendPromises);
  await app.waitForValue(async () => {
    const [row] = await testDatabase.database`select 1 from conversations where id = ${id} and title = 'Once'`;
    return row;
  });
  await Bun.sleep(200);
  expect(app.provider.listRequests("cheap")).toHaveLength(1);
  const [row] = await testDatabase.database`
    select count(*)::int as count from events where conversation_id = ${id} and type = 'conversation.updated'`;
  expect(row?.count).toBe(1);
  await firstInstance.stop();
  await secondInstance.stop();
  await testDatabase.database.end({ timeout: 1 });
});

test.each([
  ['"Quoted"', "Quoted"],
  ["Title: Sea", "Sea"],
  ["  **Bold** and `code` ", "Bold and code"],
  ["\n\n---\nSecond line\nThird", "Second line"],
  ["Wait...", "Wait..."],
  ["a\u0007b\u202Ec", "a b c"],
  ["!!!", ""],
  ["\u3164\u3164\nSeen", "Seen"],
  ["\u115f", ""],
  ["x".repeat(200), `${"x".repeat(79)}…`],
])("cleanTitle(%j) returns %j", (text, title) => {
  expect(cleanTitle(text)).toBe(title);
});
