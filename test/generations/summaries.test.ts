import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let conversationId: string;

beforeAll(async () => {
  app = await startModelApp({ AI_CONTEXT_TOKENS: "1000", AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await app.parley.register(undefined, "Anna");
});
afterAll(() => app.stop());
beforeEach(async () => {
  app.provider.script("one", { text: "Understood." });
  app.provider.script("cheap", { text: "Anna counts words." });
  ({ id: conversationId } = await app.createConversation(anna));
});
afterEach(() => app.provider.reset());

const padding = "some more words of padding ".repeat(30);
type Summary = { content: string; model: string; output_tokens: number };
const listSummaries = async (): Promise<Summary[]> => [
  ...(await app.parley.database<Summary[]>`
    select content, model, output_tokens from summaries where conversation_id = ${conversationId} order by until_seq`),
];
const waitForSummaries = (count: number) =>
  app.waitForValue(async () => {
    const rows = await listSummaries();
    return rows.length === count ? rows : undefined;
  });
/** Sends five questions, which don't fit into the context together. @returns their IDs. */
async function sendQuestions(): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < 5; n += 1) {
    const { message } = await app.sendMessage(anna, conversationId, `Number ${n}. ${padding}`);
    ids.push(message.id);
  }
  return ids;
}

test("messages that don't fit are summarized by the cheapest model, and replaced by the summary", async () => {
  await sendQuestions();
  await waitForSummaries(1);
  const [request] = app.provider.listRequests("cheap");
  const requestText = JSON.stringify(request?.body.messages);
  expect(requestText).toContain("Anna: Number 0.");
  expect(requestText).toContain("assistant: Understood.");
  await app.sendMessage(anna, conversationId, "What was it about?");
  const [system, ...messages] = app.getReceivedMessages();
  expect(system?.content).toContain("<summary>\nAnna counts words.\n</summary>");
  expect(messages.map(({ content }) => content).join()).not.toContain("Number 0.");
  expect(messages.at(-1)?.content).toBe("What was it about?");
  const [storedSummary] = await listSummaries();
  expect(storedSummary).toMatchObject({ content: "Anna counts words.", model: "compatible/cheap" });
  expect(storedSummary?.output_tokens).toBeGreaterThan(0);
});

test("the next summary includes the previous one", async () => {
  await sendQuestions();
  await waitForSummaries(1);
  app.provider.script("cheap", { text: "Anna keeps counting." });
  for (let n = 5; n < 9; n += 1) await app.sendMessage(anna, conversationId, `Number ${n}. ${padding}`);
  await app.waitForValue(async () => ((await listSummaries()).length >= 2 ? true : undefined));
  const requestText = JSON.stringify(app.provider.listRequests("cheap")[1]?.body.messages);
  expect(requestText).toContain("Anna counts words.");
  expect(requestText).not.toContain("Number 0.");
});

for (const method of ["PATCH", "DELETE"])
  test(`a ${method} request for a summarized message deletes the summary, but a request for a newer one doesn't`, async () => {
    const ids = await sendQuestions();
    await waitForSummaries(1);
    const changeMessage = (messageId: string) =>
      app.parley.fetch(`/api/v1/conversations/${conversationId}/messages/${messageId}`, {
        method,
        token: anna.access_token,
        ...(method === "PATCH" && { json: { content: "A different text." } }),
      });
    expect((await changeMessage(ids[4] ?? "")).status).toBeLessThan(300);
    expect(await listSummaries()).toHaveLength(1);
    expect((await changeMessage(ids[0] ?? "")).status).toBeLessThan(300);
    expect(await listSummaries()).toEqual([]);
    await app.sendMessage(anna, conversationId, "Continue.");
    expect(JSON.stringify(app.getReceivedMessages())).not.toContain("Anna counts words.");
  });

for (const words of [2_000, 620])
  test(`a prompt of ${words} words, which fills most of the context, has no effect after it is removed`, async () => {
    await sendQuestions();
    await waitForSummaries(1);
    const previousSummaries = await listSummaries();
    const setPrompt = async (promptId: string | null) => {
      const path = `/api/v1/conversations/${conversationId}`;
      const json = { prompt_id: promptId };
      expect((await app.parley.fetch(path, { method: "PATCH", token: anna.access_token, json })).status).toBe(200);
    };
    const json = { name: `${words} words`, template: "word ".repeat(words) };
    const creationResponse = await app.parley.fetch("/api/v1/prompts", { token: anna.access_token, json });
    await setPrompt(((await creationResponse.json()) as { id: string }).id);
    const questions = ["alpha", "beta", "gamma", "delta"].map((name) => `Question ${name}: is it ${name}?`);
    for (const question of questions) await app.sendMessage(anna, conversationId, question);
    expect(app.getReceivedMessages()[0]?.content).toStartWith("word word");
    await setPrompt(null);
    await app.sendMessage(anna, conversationId, "What was it about?");
    // Summaries are written after an answer. This waits for any summary that the earlier questions might cause.
    await Bun.sleep(300);
    expect(await listSummaries()).toEqual(previousSummaries);
    expect(app.provider.listRequests("cheap")).toHaveLength(1);
    const receivedTexts = app.getReceivedMessages().map(({ content }) => content);
    expect(receivedTexts[0]).toContain("<summary>\nAnna counts words.\n</summary>");
    for (const question of questions) expect(receivedTexts).toContain(question);
  });

test("a stored summary is truncated when it is sent with a long prompt", async () => {
  const longSummary = Array.from({ length: 170 }, (_, n) => `w${n % 10}`).join(" ");
  app.provider.script("cheap", { text: longSummary });
  await sendQuestions();
  const [storedSummary] = await waitForSummaries(1);
  const storedContent = storedSummary?.content ?? "";
  const json = { name: "half", template: "word ".repeat(420) };
  const creationResponse = await app.parley.fetch("/api/v1/prompts", { token: anna.access_token, json });
  const { id: promptId } = (await creationResponse.json()) as { id: string };
  await app.parley.fetch(`/api/v1/conversations/${conversationId}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { prompt_id: promptId },
  });
  await app.sendMessage(anna, conversationId, "Short?");
  const systemMessage = app.getReceivedMessages().find(({ content }) => content.includes("<summary>"))?.content ?? "";
  const sentPart = /<summary>\n(.*)\n<\/summary>/.exec(systemMessage)?.[1] ?? "";
  expect(sentPart.length).toBeGreaterThan(0.3 * storedContent.length);
  expect(sentPart.length).toBeLessThan(0.8 * storedContent.length);
  expect(storedContent).toStartWith(sentPart);
  expect((await listSummaries())[0]?.content).toBe(storedContent);
});

test("an empty summary isn't stored", async () => {
  app.provider.script("cheap", { text: " \n " });
  await sendQuestions();
  await app.waitForValue(() => app.provider.listRequests("cheap").at(0));
  await app.sendMessage(anna, conversationId, "Still there?");
  expect(await listSummaries()).toEqual([]);
});

test("a summary isn't stored if its messages change while it is being written", async () => {
  app.provider.script("cheap", { text: "Old news.", firstDelayMs: 400 });
  const ids = await sendQuestions();
  await app.waitForValue(() => app.provider.listRequests("cheap").at(0));
  await app.parley.fetch(`/api/v1/conversations/${conversationId}/messages/${ids[0]}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { content: "New." },
  });
  await Bun.sleep(700);
  expect(await listSummaries()).toEqual([]);
});

test("a branch that starts at a summarized message doesn't include the summary", async () => {
  const ids = await sendQuestions();
  await waitForSummaries(1);
  await app.sendMessage(anna, conversationId, "Elsewhere.", { parent_id: ids[0] });
  expect(app.getReceivedMessages()[0]?.role).toBe("user");
  expect(app.getReceivedMessages().at(-1)?.content).toStartWith("Number 0.");
  expect(app.getReceivedMessages().at(-1)?.content).toEndWith("Elsewhere.");
});

test("a failed summary request has no effect on answers", async () => {
  app.provider.script("cheap", { fault: "status", status: 400 });
  await sendQuestions();
  await app.waitForValue(() => app.provider.listRequests("cheap").at(0));
  const { reply } = await app.sendMessage(anna, conversationId, "Still there?");
  expect(reply).toMatchObject({ status: "complete", content: "Understood." });
  expect(await listSummaries()).toEqual([]);
});

test("the offline model writes no summary", async () => {
  const offlineApp = await startModelApp({ AI_MODELS: "offline/documents", AI_CONTEXT_TOKENS: "500" });
  const carl = await offlineApp.parley.register();
  const conversation = await offlineApp.createConversation(carl);
  for (let n = 0; n < 3; n += 1) await offlineApp.sendMessage(carl, conversation.id, `Number ${n}. ${padding}`);
  await Bun.sleep(100);
  expect(await offlineApp.parley.database`select 1 from summaries`).toHaveLength(0);
  await offlineApp.stop();
});
