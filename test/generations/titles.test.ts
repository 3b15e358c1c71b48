import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { cleanTitle, GENERATED_TITLE_CHARS_MAX } from "../../src/modules/generations/titles.ts";
import { type Account, startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { openSocket } from "../support/socket.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;

beforeAll(async () => {
  asking = await startAsking({ AI_MODELS: "compatible/one,compatible/cheap" });
  anna = await asking.parley.register();
});
afterAll(() => asking.stop());
afterEach(() => asking.provider.reset());

const findTitle = async (id: string, from = asking): Promise<string> => {
  const [row] = await from.parley.database<{ title: string }[]>`select title from conversations where id = ${id}`;
  return row?.title ?? "";
};
const untilTitled = (id: string, from = asking) => from.until(async () => (await findTitle(id, from)) || undefined);
const changeTitle = (id: string, title: string) =>
  asking.parley.fetch(`/api/v1/conversations/${id}`, { method: "PATCH", token: anna.access_token, json: { title } });

test("a new conversation gets one after its first answer, as an event, and never again", async () => {
  asking.provider.script("cheap", { text: '# "The Sea at Night."\nAnd more.' });
  const { id } = await asking.createConversation(anna, [], { title: "" });
  const socket = await openSocket(asking.parley.url, { token: anna.access_token });
  await socket.ask({ type: "subscribe", conversation_id: id });
  await asking.say(anna, id, "Why does the sea glow?");
  const event = await socket.waitFor(({ type }) => type === "conversation.updated");
  expect(event.data).toMatchObject({ id, title: "The Sea at Night" });
  expect(socket.frames.flatMap(({ seq }) => seq ?? [])).toEqual([1, 2, 3, 4]);
  const asked = JSON.stringify(asking.provider.requestsOf("cheap")[0]?.body.messages);
  expect(asked).toContain("Why does the sea glow?");
  expect(asked).toContain("stand-in answers");
  await asking.say(anna, id, "And the sky?");
  await Bun.sleep(100);
  expect(asking.provider.requestsOf("cheap")).toHaveLength(1);
  expect(await findTitle(id)).toBe("The Sea at Night");
  await socket.close();
});

test("its cost is charged to the user who asked", async () => {
  const person = await asking.parley.register();
  const tokens = async () => {
    const response = await asking.parley.fetch("/api/v1/me/usage", { token: person.access_token });
    return ((await response.json()) as { day: { spent_tokens: number } }).day.spent_tokens;
  };
  const given = await asking.createConversation(person, [], { title: "Mine" });
  await asking.say(person, given.id, "Why does the sea glow?");
  const answerAlone = await tokens();
  expect(answerAlone).toBeGreaterThan(0);
  const { id } = await asking.createConversation(person, [], { title: "" });
  await asking.say(person, id, "Why does the sea glow?");
  await untilTitled(id);
  expect(await tokens()).toBeGreaterThan(answerAlone * 2);
});

test("a person's title stays, whether set before, during, or removed", async () => {
  const given = await asking.createConversation(anna, [], { title: "Mine" });
  await asking.say(anna, given.id, "Hello");
  const cleared = await asking.createConversation(anna, [], { title: "" });
  await changeTitle(cleared.id, "");
  await asking.say(anna, cleared.id, "Hello");
  await Bun.sleep(100);
  expect(asking.provider.requestsOf("cheap")).toHaveLength(0);
  asking.provider.script("cheap", { text: "The model's", firstDelayMs: 200 });
  const meanwhile = await asking.createConversation(anna, [], { title: "" });
  await asking.say(anna, meanwhile.id, "Hello");
  await asking.until(() => asking.provider.requestsOf("cheap").at(0));
  await changeTitle(meanwhile.id, "The person's");
  await Bun.sleep(400);
  expect([await findTitle(given.id), await findTitle(cleared.id), await findTitle(meanwhile.id)]).toEqual([
    "Mine",
    "",
    "The person's",
  ]);
});

test("a model that fails leaves the beginning of the question", async () => {
  asking.provider.script("cheap", { fault: "status", status: 400 });
  const { id } = await asking.createConversation(anna, [], { title: "" });
  const { reply } = await asking.say(anna, id, `What is ${"very ".repeat(40)}long?`);
  expect(reply?.status).toBe("complete");
  const title = await untilTitled(id);
  expect(title).toStartWith("What is very very");
  expect(title).toEndWith("…");
  expect(title.length).toBeLessThanOrEqual(GENERATED_TITLE_CHARS_MAX);
});

test("without a model that could write one it is the beginning of the question", async () => {
  const offline = await startAsking({ AI_MODELS: "offline/documents" });
  const carl = await offline.parley.register();
  const { id } = await offline.createConversation(carl, [], { title: "" });
  await offline.say(carl, id, "**How** do I\nback up?");
  expect(await untilTitled(id, offline)).toBe("How do I");
  await offline.stop();
});

test("an answer that failed gives none", async () => {
  const { id } = await asking.createConversation(anna, [], { title: "" });
  asking.provider.script("one", { fault: "status", status: 400 });
  asking.provider.script("cheap", { fault: "status", status: 400 });
  expect((await asking.say(anna, id, "Hello")).reply?.status).toBe("failed");
  await Bun.sleep(100);
  expect(await findTitle(id)).toBe("");
});

test("two instances that finish answers at the same time ask for it once", async () => {
  asking.provider.script("cheap", { text: "Once", firstDelayMs: 50 });
  const shared = await createTestDatabase(10);
  const options = {
    database: shared,
    config: {
      COMPATIBLE_BASE_URL: asking.provider.openaiUrl,
      AI_MODELS: "compatible/one,compatible/cheap",
      AI_MAX_RETRIES: "0",
    },
  };
  const first = await startApp(options);
  const second = await startApp(options);
  const { access_token: token } = await first.register();
  const made = await first.fetch("/api/v1/conversations", { token, json: {} });
  const { id } = (await made.json()) as { id: string };
  const sends = Array.from({ length: 6 }, (_, n) =>
    (n % 2 === 0 ? first : second).fetch(`/api/v1/conversations/${id}/messages`, {
      token,
      json: { content: `Question ${n}` },
    }),
  );
  await Promise.all(sends);
  await asking.until(async () => {
    const [row] = await shared.database`select 1 from conversations where id = ${id} and title = 'Once'`;
    return row;
  });
  await Bun.sleep(200);
  expect(asking.provider.requestsOf("cheap")).toHaveLength(1);
  const [row] = await shared.database`
    select count(*)::int as count from events where conversation_id = ${id} and type = 'conversation.updated'`;
  expect(row?.count).toBe(1);
  await first.stop();
  await second.stop();
  await shared.database.end({ timeout: 1 });
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
])("%j is cleaned to %j", (text, title) => {
  expect(cleanTitle(text)).toBe(title);
});
