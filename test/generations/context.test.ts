import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let ben: Account;

beforeAll(async () => {
  app = await startModelApp();
  anna = await app.parley.register(undefined, "Anna");
  ben = await app.parley.register(undefined, "Ben");
});
afterAll(() => app.stop());
beforeEach(() => app.provider.reset());

const createPrompt = async (template: string, account = anna): Promise<string> => {
  const response = await app.parley.fetch("/api/v1/prompts", {
    token: account.access_token,
    json: { name: "p", template },
  });
  return ((await response.json()) as { id: string }).id;
};

describe("the context sent to a model", () => {
  test("contains only messages if there is no prompt", async () => {
    const { id } = await app.createConversation(anna);
    await app.sendMessage(anna, id, "Hello?");
    expect(app.getReceivedMessages()).toEqual([{ role: "user", content: "Hello?" }]);
  });

  test("starts with the rendered prompt, and matches the preview", async () => {
    const prompt_id = await createPrompt("You help {{user.display_name}} with {{conversation.title}} on {{model}}.");
    const { id } = await app.createConversation(anna, [], { prompt_id, title: "Tax" });
    await app.sendMessage(anna, id, "First?");
    await app.sendMessage(anna, id, "Second?", { reply: false });
    const preview = await app.parley.fetch(`/api/v1/prompts/${prompt_id}/preview`, {
      token: anna.access_token,
      json: { conversation_id: id },
    });
    const { system, messages, model } = (await preview.json()) as {
      system: string;
      messages: unknown[];
      model: string;
    };
    expect({ system, model }).toEqual({
      system: "You help Anna with Tax on compatible/one.",
      model: "compatible/one",
    });
    await app.sendMessage(anna, id, "Third?");
    const receivedMessages = app.getReceivedMessages();
    expect(receivedMessages[0]).toEqual({ role: "system", content: system });
    expect(messages).toEqual([
      { role: "user", content: "First?" },
      { role: "assistant", content: "Parley's provider answers in several pieces." },
      { role: "user", content: "Second?" },
    ]);
    expect(receivedMessages.slice(1, -1)).toEqual(messages.slice(0, -1) as never);
    expect(receivedMessages.at(-1)).toEqual({ role: "user", content: "Second?\n\nThird?" });
  });

  test("contains the senders' names in a group, but a sender's preferences only if the sender wrote the prompt", async () => {
    for (const account of [anna, ben])
      await app.parley.fetch("/api/v1/me/preferences", {
        method: "PUT",
        token: account.access_token,
        json: { secret: `of ${account.user.display_name}` },
      });
    const prompt_id = await createPrompt("[{{user.display_name}}: {{preferences.secret}}]");
    const { id } = await app.createConversation(anna, [ben], { kind: "group", prompt_id });
    await app.sendMessage(anna, id, "I am here.");
    expect(app.getReceivedMessages()[0]?.content).toStartWith("[Anna: of Anna]");
    await app.sendMessage(ben, id, "So am I.");
    const [system, ...messages] = app.getReceivedMessages();
    expect(system?.content).toStartWith("[Ben: ]");
    expect(system?.content).toContain("Several people");
    expect(messages.map(({ content }) => content)).toEqual([
      "Anna: I am here.",
      "Parley's provider answers in several pieces.",
      "Ben: So am I.",
    ]);
  });

  test("contains document passages if the conversation uses documents, and the answer lists its sources", async () => {
    const { id } = await app.createConversation(anna, [], { documents: true });
    const { reply } = await app.sendMessage(anna, id, "How do I back up the failover chain of models?");
    const receivedMessages = app.getReceivedMessages();
    expect(receivedMessages).toHaveLength(1);
    expect(receivedMessages[0]?.content).toContain("<document path=");
    expect(receivedMessages[0]?.content).toEndWith("How do I back up the failover chain of models?");
    const sources = reply?.metadata.sources as { path: string; title: string; heading: string | null }[];
    expect(sources.length).toBeGreaterThan(0);
    expect(sources.map(({ path }) => path)).toContain("models.md");
    for (const { path } of sources) expect(receivedMessages[0]?.content).toContain(`<document path="${path}"`);
    const plainConversation = await app.createConversation(anna);
    const plainAnswer = await app.sendMessage(
      anna,
      plainConversation.id,
      "How do I back up the failover chain of models?",
    );
    expect(app.getReceivedMessages()[0]?.content).not.toContain("<document");
    expect(plainAnswer.reply?.metadata).not.toHaveProperty("sources");
  });

  test("contains no deleted messages, and the current version of edited messages", async () => {
    const { id } = await app.createConversation(anna);
    const deletedMessage = await app.sendMessage(anna, id, "Delete me.", { reply: false });
    const editedMessage = await app.sendMessage(anna, id, "Edit me.", { reply: false });
    const path = `/api/v1/conversations/${id}/messages`;
    const { access_token: token } = anna;
    await app.parley.fetch(`${path}/${deletedMessage.message.id}`, { method: "DELETE", token });
    await app.parley.fetch(`${path}/${editedMessage.message.id}`, {
      method: "PATCH",
      token,
      json: { content: "Edited." },
    });
    await app.sendMessage(anna, id, "Now?");
    expect(app.getReceivedMessages()).toEqual([{ role: "user", content: "Edited.\n\nNow?" }]);
  });
});

describe("a context with a small token limit", () => {
  let smallApp: ModelApp;
  let carl: Account;

  beforeAll(async () => {
    // The last model writes the summaries.
    smallApp = await startModelApp({ AI_CONTEXT_TOKENS: "500", AI_MODELS: "compatible/one,compatible/two" });
    carl = await smallApp.parley.register();
  });
  afterAll(() => smallApp.stop());

  test("always includes the question, and includes as many of the newest messages as fit", async () => {
    const { id } = await smallApp.createConversation(carl);
    const createPaddedText = (n: number) => `Number ${n}: ${"some words of padding ".repeat(25)}`;
    for (let n = 0; n < 6; n += 1) await smallApp.sendMessage(carl, id, createPaddedText(n), { reply: false });
    await smallApp.sendMessage(carl, id, "Which?");
    const receivedMessages = smallApp.getReceivedMessages();
    expect(receivedMessages).toHaveLength(1);
    const numbers = [...(receivedMessages[0]?.content ?? "").matchAll(/Number (\d)/g)].map(([, n]) => Number(n));
    expect(numbers.length).toBeGreaterThan(1);
    expect(numbers.length).toBeLessThan(6);
    expect(numbers).toEqual([0, 1, 2, 3, 4, 5].slice(-numbers.length));
    expect(receivedMessages[0]?.content).toEndWith("Which?");
    await smallApp.sendMessage(carl, id, "long ".repeat(5_000));
    expect(smallApp.getReceivedMessages()).toEqual([{ role: "user", content: "long ".repeat(5_000) }]);
  });
});
