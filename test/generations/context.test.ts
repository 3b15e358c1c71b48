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
  const answer = await app.parley.fetch("/api/v1/prompts", {
    token: account.access_token,
    json: { name: "p", template },
  });
  return ((await answer.json()) as { id: string }).id;
};

describe("what a model receives", () => {
  test("is only the messages if there is no prompt", async () => {
    const { id } = await app.createConversation(anna);
    await app.say(anna, id, "Hello?");
    expect(app.readReceived()).toEqual([{ role: "user", content: "Hello?" }]);
  });

  test("starts with the rendered prompt, and a preview shows the same", async () => {
    const prompt_id = await createPrompt("You help {{user.display_name}} with {{conversation.title}} on {{model}}.");
    const { id } = await app.createConversation(anna, [], { prompt_id, title: "Tax" });
    await app.say(anna, id, "First?");
    await app.say(anna, id, "Second?", { reply: false });
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
    await app.say(anna, id, "Third?");
    const shown = app.readReceived();
    expect(shown[0]).toEqual({ role: "system", content: system });
    expect(messages).toEqual([
      { role: "user", content: "First?" },
      { role: "assistant", content: "Parley's provider answers in several pieces." },
      { role: "user", content: "Second?" },
    ]);
    expect(shown.slice(1, -1)).toEqual(messages.slice(0, -1) as never);
    expect(shown.at(-1)).toEqual({ role: "user", content: "Second?\n\nThird?" });
  });

  test("contains the speakers' names in a group, and the prompt's author sees no other user's preferences", async () => {
    for (const account of [anna, ben])
      await app.parley.fetch("/api/v1/me/preferences", {
        method: "PUT",
        token: account.access_token,
        json: { secret: `of ${account.user.display_name}` },
      });
    const prompt_id = await createPrompt("[{{user.display_name}}: {{preferences.secret}}]");
    const { id } = await app.createConversation(anna, [ben], { kind: "group", prompt_id });
    await app.say(anna, id, "I am here.");
    expect(app.readReceived()[0]?.content).toStartWith("[Anna: of Anna]");
    await app.say(ben, id, "So am I.");
    const [system, ...messages] = app.readReceived();
    expect(system?.content).toStartWith("[Ben: ]");
    expect(system?.content).toContain("Several people");
    expect(messages.map(({ content }) => content)).toEqual([
      "Anna: I am here.",
      "Parley's provider answers in several pieces.",
      "Ben: So am I.",
    ]);
  });

  test("contains document passages if the conversation has documents on, and the answer lists its sources", async () => {
    const { id } = await app.createConversation(anna, [], { documents: true });
    const { reply } = await app.say(anna, id, "How do I back up the fallback chain of models?");
    const shown = app.readReceived();
    expect(shown).toHaveLength(1);
    expect(shown[0]?.content).toContain("<document path=");
    expect(shown[0]?.content).toEndWith("How do I back up the fallback chain of models?");
    const sources = reply?.metadata.sources as { path: string; title: string; heading: string | null }[];
    expect(sources.length).toBeGreaterThan(0);
    expect(sources.map(({ path }) => path)).toContain("models.md");
    for (const { path } of sources) expect(shown[0]?.content).toContain(`<document path="${path}"`);
    const plain = await app.createConversation(anna);
    const other = await app.say(anna, plain.id, "How do I back up the fallback chain of models?");
    expect(app.readReceived()[0]?.content).not.toContain("<document");
    expect(other.reply?.metadata).not.toHaveProperty("sources");
  });

  test("excludes deleted messages, and contains edited ones in their current version", async () => {
    const { id } = await app.createConversation(anna);
    const first = await app.say(anna, id, "Delete me.", { reply: false });
    const second = await app.say(anna, id, "Edit me.", { reply: false });
    const path = `/api/v1/conversations/${id}/messages`;
    const { access_token: token } = anna;
    await app.parley.fetch(`${path}/${first.message.id}`, { method: "DELETE", token });
    await app.parley.fetch(`${path}/${second.message.id}`, { method: "PATCH", token, json: { content: "Edited." } });
    await app.say(anna, id, "Now?");
    expect(app.readReceived()).toEqual([{ role: "user", content: "Edited.\n\nNow?" }]);
  });
});

describe("a small token budget", () => {
  let small: ModelApp;
  let carl: Account;

  beforeAll(async () => {
    // The chain's last model writes the summaries.
    small = await startModelApp({ AI_CONTEXT_TOKENS: "500", AI_MODELS: "compatible/one,compatible/two" });
    carl = await small.parley.register();
  });
  afterAll(() => small.stop());

  test("includes the newest messages that fit, and always the question", async () => {
    const { id } = await small.createConversation(carl);
    const text = (n: number) => `Number ${n}: ${"some words of padding ".repeat(25)}`;
    for (let n = 0; n < 6; n += 1) await small.say(carl, id, text(n), { reply: false });
    await small.say(carl, id, "Which?");
    const shown = small.readReceived();
    expect(shown).toHaveLength(1);
    const numbers = [...(shown[0]?.content ?? "").matchAll(/Number (\d)/g)].map(([, n]) => Number(n));
    expect(numbers.length).toBeGreaterThan(1);
    expect(numbers.length).toBeLessThan(6);
    expect(numbers).toEqual([0, 1, 2, 3, 4, 5].slice(-numbers.length));
    expect(shown[0]?.content).toEndWith("Which?");
    await small.say(carl, id, "long ".repeat(5_000));
    expect(small.readReceived()).toEqual([{ role: "user", content: "long ".repeat(5_000) }]);
  });
});
