import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type ModelApp, startModelApp } from "./start-model-app.ts";

let app: ModelApp;
let anna: Account;
let conversationId: string;
/** SQL statements sent to the database. */
const statements: string[] = [];

async function startAppWithContext(tokens: string): Promise<void> {
  app = await startModelApp({ AI_CONTEXT_TOKENS: tokens, AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await app.parley.register(undefined, "Anna");
  app.parley.database.options.debug = (_connection, statement) => statements.push(statement);
}

const createHistory = async () => {
  app.provider.script("one", { text: "Understood." });
  app.provider.script("cheap", { text: "First summary." });
  ({ id: conversationId } = await app.createConversation(anna));
};

/** Inserts messages directly into the database. Each message contains its sequence number. */
async function insertOldMessages(count: number, text: string): Promise<void> {
  const { database } = app.parley;
  await database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${conversationId}, c.last_seq + n, 'user', ${anna.user.id}, '<' || c.last_seq + n || '>' || ${text}
    from conversations c, generate_series(1, ${count}) n where c.id = ${conversationId}`;
  await database`update conversations set last_seq = last_seq + ${count} where id = ${conversationId}`;
}

const parseNumbers = (text: string): number[] => [...text.matchAll(/<(\d+)>/g)].map(([, n]) => Number(n));
const listSummaryRequests = (): string[] =>
  app.provider.listRequests("cheap").map(({ body }) => JSON.stringify(body.messages));
/** Returns the summary in the last request to the model, and the sequence numbers of the messages in it. */
function parseLastRequest(): { summary: string | undefined; numbers: number[] } {
  const receivedTexts = app.getReceivedMessages().map(({ content }) => content);
  return {
    summary: /<summary>\n(.*)\n<\/summary>/.exec(receivedTexts.join("\n"))?.[1],
    numbers: parseNumbers(receivedTexts.join("\n")),
  };
}
const listSummaryEnds = async () =>
  (
    await app.parley.database<{ until_seq: number }[]>`
      select until_seq from summaries where conversation_id = ${conversationId} order by until_seq`
  ).map((row) => row.until_seq);

/** Sends a question, and waits until no more summaries are requested. @returns the new summary requests. */
async function sendQuestion(question: string): Promise<string[]> {
  const previousRequests = listSummaryRequests().length;
  await app.sendMessage(anna, conversationId, question);
  let previousCount = -1;
  await app.waitForValue(async () => {
    const requestCount = listSummaryRequests().length;
    const isSettled = requestCount === previousCount && (await listSummaryEnds()).length === requestCount;
    previousCount = requestCount;
    await Bun.sleep(200);
    return isSettled ? true : undefined;
  }, 15_000);
  return listSummaryRequests().slice(previousRequests);
}

describe("a history that is much longer than the context", () => {
  beforeAll(() => startAppWithContext("1000"));
  afterAll(() => app.stop());
  beforeEach(createHistory);
  afterEach(() => app.provider.reset());

  test("is summarized with one request, which contains only the newest of the messages that don't fit", async () => {
    await insertOldMessages(3_000, "some words of padding ".repeat(5));
    statements.length = 0;
    const requests = await sendQuestion("What now?");
    expect(requests).toHaveLength(1);
    expect(statements.filter((text) => text.includes("list_path")).length).toBeLessThan(8);
    const summarizedNumbers = requests.flatMap(parseNumbers);
    expect(summarizedNumbers.length).toBeGreaterThan(10);
    expect(summarizedNumbers[0]).toBeGreaterThan(2_900);

    expect(await sendQuestion("And now?")).toEqual([]);
    const { summary, numbers } = parseLastRequest();
    expect(summary).toBe("First summary.");
    expect(numbers[0]).toBe((summarizedNumbers.at(-1) ?? 0) + 1);
    expect(numbers.at(-1)).toBe(3_000);
  });

  test("is summarized completely with a few requests if it is too long for one", async () => {
    await insertOldMessages(60, "some words of padding ".repeat(5));
    const requests = await sendQuestion("What now?");
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.length).toBeLessThanOrEqual(4);
    const summarizedNumbers = requests.flatMap(parseNumbers);
    expect(summarizedNumbers).toEqual(Array.from({ length: summarizedNumbers.length }, (_, n) => n + 1));
    expect((await listSummaryEnds()).at(-1)).toBe(summarizedNumbers.length);
    for (const [index, text] of requests.entries()) expect(text.includes("First summary.")).toBe(index > 0);
    expect(await sendQuestion("And now?")).toEqual([]);
    expect(parseLastRequest()).toMatchObject({
      summary: "First summary.",
      numbers: { 0: summarizedNumbers.length + 1 },
    });
  });

  test("is summarized starting from the last summary, even if that summary is old", async () => {
    await insertOldMessages(40, "some words of padding ".repeat(5));
    expect((await sendQuestion("What now?")).length).toBeGreaterThan(0);
    app.provider.script("cheap", { text: "Next summary." });
    await insertOldMessages(3_000, "some words of padding ".repeat(5));
    const requests = await sendQuestion("What happened?");
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.length).toBeLessThanOrEqual(4);
    expect(requests[0]).toContain("First summary.");
    for (const text of requests.slice(1)) expect(text).toContain("Next summary.");
    expect(await sendQuestion("And now?")).toEqual([]);
    const { summary, numbers } = parseLastRequest();
    expect(summary).toBe("Next summary.");
    expect(numbers[0]).toBe((requests.flatMap(parseNumbers).at(-1) ?? 0) + 1);
  });

  test("is truncated even if its messages consist only of spaces", async () => {
    await insertOldMessages(50, " ".repeat(10_000));
    for (const request of await sendQuestion("What was that?")) expect(request.length).toBeLessThan(13_000);
    expect(parseLastRequest().numbers).toEqual([50]);
  });

  test("is sent without its summary if the question wouldn't fit with it", async () => {
    await insertOldMessages(60, "some words of padding ".repeat(5));
    expect((await sendQuestion("What now?")).length).toBeGreaterThan(0);
    const question = "word ".repeat(2_000).trim();
    await app.sendMessage(anna, conversationId, question);
    expect(app.getReceivedMessages()).toEqual([{ role: "user", content: question }]);
  });
});

describe("a history of many short messages", () => {
  beforeAll(() => startAppWithContext("30000"));
  afterAll(() => app.stop());

  test("isn't summarized again when only one more message is sent", async () => {
    await createHistory();
    await insertOldMessages(1_500, "ok");
    const requests = await sendQuestion("What now?");
    expect(requests.length).toBeGreaterThan(0);
    expect(parseLastRequest().numbers).toHaveLength(999);
    expect(await sendQuestion("And now?")).toEqual([]);
    const { summary, numbers } = parseLastRequest();
    expect(summary).toBe("First summary.");
    expect(numbers[0]).toBe((requests.flatMap(parseNumbers).at(-1) ?? 0) + 1);
    expect(numbers.length).toBeLessThan(500);
  });
});
