import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import type { Account } from "../support/app.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;
let id: string;
/** Statements sent to the database. */
const statements: string[] = [];

async function start(tokens: string): Promise<void> {
  asking = await startAsking({ AI_CONTEXT_TOKENS: tokens, AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await asking.parley.register(undefined, "Anna");
  asking.parley.database.options.debug = (_connection, statement) => statements.push(statement);
}

const begin = async () => {
  asking.provider.script("one", { text: "Understood." });
  asking.provider.script("cheap", { text: "First summary." });
  ({ id } = await asking.createConversation(anna));
};

/** Inserts old messages, each with its number, as an import would. */
async function insertPast(count: number, text: string): Promise<void> {
  const { database } = asking.parley;
  await database`
    insert into messages (id, conversation_id, seq, role, author_id, content)
    select gen_random_uuid(), ${id}, c.last_seq + n, 'user', ${anna.user.id}, '<' || c.last_seq + n || '>' || ${text}
    from conversations c, generate_series(1, ${count}) n where c.id = ${id}`;
  await database`update conversations set last_seq = last_seq + ${count} where id = ${id}`;
}

const numbersIn = (text: string): number[] => [...text.matchAll(/<(\d+)>/g)].map(([, n]) => Number(n));
const summaryRequests = (): string[] =>
  asking.provider.requestsOf("cheap").map(({ body }) => JSON.stringify(body.messages));
/** What the model received last: the summary, and the numbers of the messages. */
function readShown(): { summary: string | undefined; numbers: number[] } {
  const texts = asking.readShown().map(({ content }) => content);
  return { summary: /<summary>\n(.*)\n<\/summary>/.exec(texts.join("\n"))?.[1], numbers: numbersIn(texts.join("\n")) };
}
const listUntil = async () =>
  (
    await asking.parley.database<{ until_seq: number }[]>`
      select until_seq from summaries where conversation_id = ${id} order by until_seq`
  ).map((row) => row.until_seq);

/** Sends a question and waits until its summary is stored. @returns the summary requests. */
async function ask(question: string): Promise<string[]> {
  const before = summaryRequests().length;
  await asking.say(anna, id, question);
  let seen = -1;
  await asking.until(async () => {
    const asked = summaryRequests().length;
    const isSettled = asked === seen && (await listUntil()).length === asked;
    seen = asked;
    await Bun.sleep(200);
    return isSettled ? true : undefined;
  }, 15_000);
  return summaryRequests().slice(before);
}

describe("a history that is much longer than what fits", () => {
  beforeAll(() => start("1000"));
  afterAll(() => asking.stop());
  beforeEach(begin);
  afterEach(() => asking.provider.reset());

  test("is summarised by one request, about the messages just before those that are kept", async () => {
    await insertPast(3_000, "some words of padding ".repeat(5));
    statements.length = 0;
    const requests = await ask("What now?");
    expect(requests).toHaveLength(1);
    expect(statements.filter((text) => text.includes("list_path")).length).toBeLessThan(8);
    const covered = requests.flatMap(numbersIn);
    expect(covered.length).toBeGreaterThan(10);
    expect(covered[0]).toBeGreaterThan(2_900);

    expect(await ask("And now?")).toEqual([]);
    const { summary, numbers } = readShown();
    expect(summary).toBe("First summary.");
    expect(numbers[0]).toBe((covered.at(-1) ?? 0) + 1);
    expect(numbers.at(-1)).toBe(3_000);
  });

  test("that is more than one request takes is summarised whole, one part after the other", async () => {
    await insertPast(60, "some words of padding ".repeat(5));
    const requests = await ask("What now?");
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.length).toBeLessThanOrEqual(4);
    const covered = requests.flatMap(numbersIn);
    expect(covered).toEqual(Array.from({ length: covered.length }, (_, n) => n + 1));
    expect((await listUntil()).at(-1)).toBe(covered.length);
    for (const [index, text] of requests.entries()) expect(text.includes("First summary.")).toBe(index > 0);
    expect(await ask("And now?")).toEqual([]);
    expect(readShown()).toMatchObject({ summary: "First summary.", numbers: { 0: covered.length + 1 } });
  });

  test("goes on from the summary that it has, however far back that is", async () => {
    await insertPast(40, "some words of padding ".repeat(5));
    expect((await ask("What now?")).length).toBeGreaterThan(0);
    asking.provider.script("cheap", { text: "Next summary." });
    await insertPast(3_000, "some words of padding ".repeat(5));
    const requests = await ask("What happened?");
    expect(requests.length).toBeGreaterThan(1);
    expect(requests.length).toBeLessThanOrEqual(4);
    expect(requests[0]).toContain("First summary.");
    for (const text of requests.slice(1)) expect(text).toContain("Next summary.");
    expect(await ask("And now?")).toEqual([]);
    const { summary, numbers } = readShown();
    expect(summary).toBe("Next summary.");
    expect(numbers[0]).toBe((requests.flatMap(numbersIn).at(-1) ?? 0) + 1);
  });

  test("of nothing but spaces fills neither the model's context nor the memory", async () => {
    await insertPast(50, " ".repeat(10_000));
    for (const request of await ask("What was that?")) expect(request.length).toBeLessThan(13_000);
    expect(readShown().numbers).toEqual([50]);
  });

  test("does not show a summary that leaves no room for the question", async () => {
    await insertPast(60, "some words of padding ".repeat(5));
    expect((await ask("What now?")).length).toBeGreaterThan(0);
    const question = "word ".repeat(2_000).trim();
    await asking.say(anna, id, question);
    expect(asking.readShown()).toEqual([{ role: "user", content: question }]);
  });
});

describe("a history of very many short messages", () => {
  beforeAll(() => start("30000"));
  afterAll(() => asking.stop());

  test("has one summary until many more have come", async () => {
    await begin();
    await insertPast(1_500, "ok");
    const requests = await ask("What now?");
    expect(requests.length).toBeGreaterThan(0);
    expect(readShown().numbers).toHaveLength(999);
    expect(await ask("And now?")).toEqual([]);
    const { summary, numbers } = readShown();
    expect(summary).toBe("First summary.");
    expect(numbers[0]).toBe((requests.flatMap(numbersIn).at(-1) ?? 0) + 1);
    expect(numbers.length).toBeLessThan(500);
  });
});
