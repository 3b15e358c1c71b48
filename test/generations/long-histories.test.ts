import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let id: string;
/** Statements sent to the database. */
const statements: string[] = [];

async function start(tokens: string): Promise<void> {
  app = await startModelApp({ AI_CONTEXT_TOKENS: tokens, AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await app.parley.register(undefined, "Anna");
  app.parley.database.options.debug = (_connection, statement) => statements.push(statement);
}

const begin = async () => {
  app.provider.script("one", { text: "Understood." });
  app.provider.script("cheap", { text: "First summary." });
  ({ id } = await app.createConversation(anna));
};

/** Inserts old messages, each with its number, as an import would. */
async function insertOldMessages(count: number, text: string): Promise<void> {
  const { database } = app.parley;
  await database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, c.last_seq + n, 'user', ${anna.user.id}, '<' || c.last_seq + n || '>' || ${text}
    from conversations c, generate_series(1, ${count}) n where c.id = ${id}`;
  await database`update conversations set last_seq = last_seq + ${count} where id = ${id}`;
}

const numbersIn = (text: string): number[] => [...text.matchAll(/<(\d+)>/g)].map(([, n]) => Number(n));
const summaryRequests = (): string[] =>
  app.provider.requestsOf("cheap").map(({ body }) => JSON.stringify(body.messages));
/** What the model received last: the summary, and the numbers of the messages. */
function readReceived(): { summary: string | undefined; numbers: number[] } {
  const texts = app.readReceived().map(({ content }) => content);
  return { summary: /<summary>\n(.*)\n<\/summary>/.exec(texts.join("\n"))?.[1], numbers: numbersIn(texts.join("\n")) };
}
const listUntil = async () =>
  (
    await app.parley.database<{ until_seq: number }[]>`
      select until_seq from summaries where conversation_id = ${id} order by until_seq`
  ).map((row) => row.until_seq);

/** Sends a question and waits until its summary is stored. @returns the summary requests. */
async function ask(question: string): Promise<string[]> {
  const before = summaryRequests().length;
  await app.say(anna, id, question);
  let seen = -1;
  await app.waitUntil(async () => {
    const requestCount = summaryRequests().length;
    const isSettled = requestCount === seen && (await listUntil()).length === requestCount;
    seen = requestCount;
    await Bun.sleep(200);
    return isSettled ? true : undefined;
  }, 15_000);
  return summaryRequests().slice(before);
}

describe("a history much longer than what fits", () => {
  beforeAll(() => start("1000"));
  afterAll(() => app.stop());
  beforeEach(begin);
  afterEach(() => app.provider.reset());

  test("is summarized with one request, from the messages just before the kept ones", async () => {
    await insertOldMessages(3_000, "some words of padding ".repeat(5));
    statements.length = 0;
    const requests = await ask("What now?");
    expect(requests).toHaveLength(1);
    expect(statements.filter((text) => text.includes("list_path")).length).toBeLessThan(8);
    const covered = requests.flatMap(numbersIn);
    expect(covered.length).toBeGreaterThan(10);
    expect(covered[0]).toBeGreaterThan(2_900);

    expect(await ask("And now?")).toEqual([]);
    const { summary, numbers } = readReceived();
    expect(summary).toBe("First summary.");
    expect(numbers[0]).toBe((covered.at(-1) ?? 0) + 1);
    expect(numbers.at(-1)).toBe(3_000);
  });

  test("that exceeds one request is summarized completely, part by part", async () => {
    await insertOldMessages(60, "some words of padding ".repeat(5));
    const requests = await ask("What now?");
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.length).toBeLessThanOrEqual(4);
    const covered = requests.flatMap(numbersIn);
    expect(covered).toEqual(Array.from({ length: covered.length }, (_, n) => n + 1));
    expect((await listUntil()).at(-1)).toBe(covered.length);
    for (const [index, text] of requests.entries()) expect(text.includes("First summary.")).toBe(index > 0);
    expect(await ask("And now?")).toEqual([]);
    expect(readReceived()).toMatchObject({ summary: "First summary.", numbers: { 0: covered.length + 1 } });
  });

  test("continues from the last summary, however old that is", async () => {
    await insertOldMessages(40, "some words of padding ".repeat(5));
    expect((await ask("What now?")).length).toBeGreaterThan(0);
    app.provider.script("cheap", { text: "Next summary." });
    await insertOldMessages(3_000, "some words of padding ".repeat(5));
    const requests = await ask("What happened?");
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.length).toBeLessThanOrEqual(4);
    expect(requests[0]).toContain("First summary.");
    for (const text of requests.slice(1)) expect(text).toContain("Next summary.");
    expect(await ask("And now?")).toEqual([]);
    const { summary, numbers } = readReceived();
    expect(summary).toBe("Next summary.");
    expect(numbers[0]).toBe((requests.flatMap(numbersIn).at(-1) ?? 0) + 1);
  });

  test("of only spaces fills neither the model's context nor the memory", async () => {
    await insertOldMessages(50, " ".repeat(10_000));
    for (const request of await ask("What was that?")) expect(request.length).toBeLessThan(13_000);
    expect(readReceived().numbers).toEqual([50]);
  });

  test("doesn't include a summary that leaves no room for the question", async () => {
    await insertOldMessages(60, "some words of padding ".repeat(5));
    expect((await ask("What now?")).length).toBeGreaterThan(0);
    const question = "word ".repeat(2_000).trim();
    await app.say(anna, id, question);
    expect(app.readReceived()).toEqual([{ role: "user", content: question }]);
  });
});

describe("a history of very many short messages", () => {
  beforeAll(() => start("30000"));
  afterAll(() => app.stop());

  test("keeps one summary until many more messages were sent", async () => {
    await begin();
    await insertOldMessages(1_500, "ok");
    const requests = await ask("What now?");
    expect(requests.length).toBeGreaterThan(0);
    expect(readReceived().numbers).toHaveLength(999);
    expect(await ask("And now?")).toEqual([]);
    const { summary, numbers } = readReceived();
    expect(summary).toBe("First summary.");
    expect(numbers[0]).toBe((requests.flatMap(numbersIn).at(-1) ?? 0) + 1);
    expect(numbers.length).toBeLessThan(500);
  });
});
