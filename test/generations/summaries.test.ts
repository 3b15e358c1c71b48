import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;
let id: string;

beforeAll(async () => {
  asking = await startAsking({ AI_CONTEXT_TOKENS: "1000", AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await asking.parley.register(undefined, "Anna");
});
afterAll(() => asking.stop());
beforeEach(async () => {
  asking.provider.script("one", { text: "Understood." });
  asking.provider.script("cheap", { text: "Anna counts words." });
  ({ id } = await asking.createConversation(anna));
});
afterEach(() => asking.provider.reset());

const padding = "some more words of padding ".repeat(30);
type Summary = { content: string; model: string; output_tokens: number };
const listSummaries = async (): Promise<Summary[]> => [
  ...(await asking.parley.database<Summary[]>`
    select content, model, output_tokens from summaries where conversation_id = ${id} order by until_seq`),
];
const untilSummaries = (count: number) =>
  asking.until(async () => {
    const rows = await listSummaries();
    return rows.length === count ? rows : undefined;
  });
/** Five questions with answers, until they no longer all fit. */
async function fill(): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < 5; n += 1) {
    const { message } = await asking.say(anna, id, `Number ${n}. ${padding}`);
    ids.push(message.id);
  }
  return ids;
}

test("what no longer fits is summarised once by the cheapest model, and shown in place of the messages", async () => {
  await fill();
  await untilSummaries(1);
  const [request] = asking.provider.requestsOf("cheap");
  const asked = JSON.stringify(request?.body.messages);
  expect(asked).toContain("Anna: Number 0.");
  expect(asked).toContain("assistant: Understood.");
  await asking.say(anna, id, "What was it about?");
  const [system, ...turns] = asking.readShown();
  expect(system?.content).toContain("<summary>\nAnna counts words.\n</summary>");
  expect(turns.map(({ content }) => content).join()).not.toContain("Number 0.");
  expect(turns.at(-1)?.content).toBe("What was it about?");
  const [stored] = await listSummaries();
  expect(stored).toMatchObject({ content: "Anna counts words.", model: "compatible/cheap" });
  expect(stored?.output_tokens).toBeGreaterThan(0);
});

test("a summary rolls: the next one takes in the one before", async () => {
  await fill();
  await untilSummaries(1);
  asking.provider.script("cheap", { text: "Anna counts further." });
  for (let n = 5; n < 9; n += 1) await asking.say(anna, id, `Number ${n}. ${padding}`);
  await asking.until(async () => ((await listSummaries()).length >= 2 ? true : undefined));
  const asked = JSON.stringify(asking.provider.requestsOf("cheap")[1]?.body.messages);
  expect(asked).toContain("Anna counts words.");
  expect(asked).not.toContain("Number 0.");
});

for (const change of ["PATCH", "DELETE"])
  test(`a summary goes when a message that it covers is changed by ${change}, and stays when a newer one is`, async () => {
    const ids = await fill();
    await untilSummaries(1);
    const alter = (messageId: string) =>
      asking.parley.fetch(`/api/v1/conversations/${id}/messages/${messageId}`, {
        method: change,
        token: anna.access_token,
        ...(change === "PATCH" && { json: { content: "Another text." } }),
      });
    expect((await alter(ids[4] ?? "")).status).toBeLessThan(300);
    expect(await listSummaries()).toHaveLength(1);
    expect((await alter(ids[0] ?? "")).status).toBeLessThan(300);
    expect(await listSummaries()).toEqual([]);
    await asking.say(anna, id, "Go on.");
    expect(JSON.stringify(asking.readShown())).not.toContain("Anna counts words.");
  });

for (const words of [2_000, 620])
  test(`a prompt of ${words} words that leaves hardly any room takes nothing away once it is gone`, async () => {
    await fill();
    await untilSummaries(1);
    const before = await listSummaries();
    const setPrompt = async (promptId: string | null) => {
      const path = `/api/v1/conversations/${id}`;
      const json = { prompt_id: promptId };
      expect((await asking.parley.fetch(path, { method: "PATCH", token: anna.access_token, json })).status).toBe(200);
    };
    const json = { name: `${words} words`, template: "word ".repeat(words) };
    const created = await asking.parley.fetch("/api/v1/prompts", { token: anna.access_token, json });
    await setPrompt(((await created.json()) as { id: string }).id);
    const questions = ["alpha", "beta", "gamma", "delta"].map((name) => `Question ${name}: is it ${name}?`);
    for (const question of questions) await asking.say(anna, id, question);
    expect(asking.readShown()[0]?.content).toStartWith("word word");
    await setPrompt(null);
    await asking.say(anna, id, "What was it about?");
    // Follow-ups run after the answer: those of earlier questions have had time to write.
    await Bun.sleep(300);
    expect(await listSummaries()).toEqual(before);
    expect(asking.provider.requestsOf("cheap")).toHaveLength(1);
    const shown = asking.readShown().map(({ content }) => content);
    expect(shown[0]).toContain("<summary>\nAnna counts words.\n</summary>");
    for (const question of questions) expect(shown).toContain(question);
  });

test("a summary is stored as long as the model's budget allows, and shown as long as the prompt does", async () => {
  const long = Array.from({ length: 170 }, (_, n) => `w${n % 10}`).join(" ");
  asking.provider.script("cheap", { text: long });
  await fill();
  const [stored] = await untilSummaries(1);
  const kept = stored?.content ?? "";
  const json = { name: "half", template: "word ".repeat(420) };
  const created = await asking.parley.fetch("/api/v1/prompts", { token: anna.access_token, json });
  const { id: promptId } = (await created.json()) as { id: string };
  await asking.parley.fetch(`/api/v1/conversations/${id}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { prompt_id: promptId },
  });
  await asking.say(anna, id, "Short?");
  const shown = asking.readShown().find(({ content }) => content.includes("<summary>"))?.content ?? "";
  const part = /<summary>\n(.*)\n<\/summary>/.exec(shown)?.[1] ?? "";
  expect(part.length).toBeGreaterThan(0.3 * kept.length);
  expect(part.length).toBeLessThan(0.8 * kept.length);
  expect(kept).toStartWith(part);
  expect((await listSummaries())[0]?.content).toBe(kept);
});

test("an empty summary is not stored", async () => {
  asking.provider.script("cheap", { text: " \n " });
  await fill();
  await asking.until(() => asking.provider.requestsOf("cheap").at(0));
  await asking.say(anna, id, "Still there?");
  expect(await listSummaries()).toEqual([]);
});

test("a summary of what was changed while it was written is not stored", async () => {
  asking.provider.script("cheap", { text: "Old news.", firstDelayMs: 400 });
  const ids = await fill();
  await asking.until(() => asking.provider.requestsOf("cheap").at(0));
  await asking.parley.fetch(`/api/v1/conversations/${id}/messages/${ids[0]}`, {
    method: "PATCH",
    token: anna.access_token,
    json: { content: "New." },
  });
  await Bun.sleep(700);
  expect(await listSummaries()).toEqual([]);
});

test("a branch that leaves before the summary's end is not shown it", async () => {
  const ids = await fill();
  await untilSummaries(1);
  await asking.say(anna, id, "Elsewhere.", { parent_id: ids[0] });
  expect(asking.readShown()[0]?.role).toBe("user");
  expect(asking.readShown().at(-1)?.content).toStartWith("Number 0.");
  expect(asking.readShown().at(-1)?.content).toEndWith("Elsewhere.");
});

test("a model that fails to write one does no harm", async () => {
  asking.provider.script("cheap", { fault: "status", status: 400 });
  await fill();
  await asking.until(() => asking.provider.requestsOf("cheap").at(0));
  const { reply } = await asking.say(anna, id, "Still there?");
  expect(reply).toMatchObject({ status: "complete", content: "Understood." });
  expect(await listSummaries()).toEqual([]);
});

test("the offline model writes none and needs none", async () => {
  const offline = await startAsking({ AI_MODELS: "offline/documents", AI_CONTEXT_TOKENS: "500" });
  const carl = await offline.parley.register();
  const conversation = await offline.createConversation(carl);
  for (let n = 0; n < 3; n += 1) await offline.say(carl, conversation.id, `Number ${n}. ${padding}`);
  await Bun.sleep(100);
  expect(await offline.parley.database`select 1 from summaries`).toHaveLength(0);
  await offline.stop();
});
