import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { expectUndisturbed, measure, whileLocked } from "./row-locks.ts";

let app: ModelApp;
let anna: RestClient;
let ben: RestClient;
let group: string;
let bensConversation: string;

beforeAll(async () => {
  app = await startModelApp({ BUDGET_USER_TOKENS_PER_DAY: "1000000000000" });
  const { parley } = app;
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  group = (await createConversation(parley, anna.account, [ben.account], { reply_mode: "mention" })).id;
  bensConversation = (await createConversation(parley, ben.account)).id;
  for (const { account } of [anna, ben]) await app.sendMessage(account, group, "Creates a budget window.");
  await app.sendMessage(ben.account, bensConversation, "Warms up query plans.");
});
afterAll(() => app.stop());

const LOCK_WINDOWS = "select 1 from budget_windows where scope_id = $1 for update";
const whilePayerIsLocked = <T>(payer: string, work: () => Promise<T>) =>
  whileLocked(app.parley.database, LOCK_WINDOWS, [payer], work);

const send = async (rest: RestClient, id: string, content: string, fields: Record<string, unknown> = {}) => {
  const { status, body } = await rest.request<SentMessage>("POST", `/conversations/${id}/messages`, {
    content,
    ...fields,
  });
  return { status, seq: body.message?.seq ?? 0 };
};
const expectSent = async (rest: RestClient, id: string, fields: Record<string, unknown> = {}) =>
  expect((await send(rest, id, "hello", fields)).status).toBe(201);

/** Expects that another user's messages and answers aren't delayed, neither in the same group nor in another conversation. */
async function expectOthersUndisturbed(ms: number): Promise<void> {
  const sendTo = (account: Account, id: string) => app.sendMessage(account, id, "And me?");
  const results = await Promise.all([
    measure(ms, () => expectSent(ben, group, { reply: false })),
    measure(ms, () => sendTo(ben.account, group)),
    measure(ms, () => sendTo(ben.account, bensConversation)),
  ]);
  for (const durationsMs of results) expectUndisturbed(durationsMs);
}

const findDayWindow = async (userId: string) => {
  const [row] = await app.parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${userId} and period = 'day'`;
  return row;
};

test("a locked budget delays only its user's messages, even in a group, and they keep their order", async () => {
  const before = await findDayWindow(anna.id);
  const sent = await whilePayerIsLocked(anna.id, async () => {
    const sent = [send(anna, group, "Waits.", { reply: true })];
    await Bun.sleep(50);
    sent.push(
      send(anna, group, "Stays behind.", { reply: false }),
      send(anna, group, "So does this.", { reply: true }),
    );
    await expectOthersUndisturbed(4_000);
    return sent;
  });
  const results = await Promise.all(sent);
  expect(results.map(({ status }) => status)).toEqual([201, 201, 201]);
  const numbers = results.map(({ seq }) => seq);
  expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  await app.waitUntil(async () => ((await findDayWindow(anna.id))?.reserved === 0 ? true : undefined));
  expect((await findDayWindow(anna.id))?.spent).toBeGreaterThan(before?.spent ?? 0);
}, 30_000);

test("a locked budget does not delay messages without an answer", async () => {
  await whilePayerIsLocked(anna.id, async () => expectUndisturbed(await measure(1_000, () => expectSent(anna, group))));
});

test("an answer that ends while the budget is locked delays no other user, keeps its lease, and is charged once", async () => {
  const { parley, provider } = app;
  const pieces = Array.from({ length: 10 }, (_, n) => `w${n} `);
  provider.script("one", { pieces, pieceDelayMs: 50 }, { text: "Short." });
  const before = await findDayWindow(anna.id);
  const requestsBefore = provider.listRequests("one").length;
  const { body } = await anna.request<SentMessage>("POST", `/conversations/${group}/messages`, {
    content: "Talk.",
    reply: true,
  });
  const find = async () => {
    const [row] = await parley.database<{ status: string; fence: number; left_ms: number }[]>`
      select status, fence, (extract(epoch from lease_until - now()) * 1000)::int as left_ms
      from generations where message_id = ${body.reply?.id ?? ""}`;
    return row;
  };
  await app.waitUntil(() => (provider.listRequests("one").length > requestsBefore ? true : undefined));
  const reserved = (await findDayWindow(anna.id))?.reserved;
  await whilePayerIsLocked(anna.id, async () => {
    expect((await find())?.status).toBe("running");
    await expectOthersUndisturbed(5_000);
    const generation = await find();
    expect(generation?.status).toBe("running");
    expect(generation?.left_ms).toBeGreaterThan(3_000);
  });
  await app.waitUntil(async () => ((await find())?.status === "finished" ? true : undefined));
  expect((await find())?.fence).toBe(1);
  expect(reserved).toBeGreaterThan(0);
  const after = await findDayWindow(anna.id);
  expect(after?.reserved).toBe(0);
  expect(after?.spent).toBeGreaterThan(before?.spent ?? 0);
}, 30_000);

test("a regeneration requested while the budget is locked gets 503, and does not block the group", async () => {
  const { body } = await anna.request<SentMessage>("POST", `/conversations/${group}/messages`, {
    content: "Question",
    reply: false,
  });
  await whilePayerIsLocked(anna.id, async () => {
    const path = `/conversations/${group}/messages/${body.message.id}/regenerate`;
    const refusals = measure(3_000, async () => expect((await anna.request("POST", path)).status).toBe(503), 300);
    await expectOthersUndisturbed(3_000);
    await refusals;
  });
}, 30_000);

test("uncommitted new windows block only their user", async () => {
  const { parley } = app;
  const newcomer = createRestClient(parley, await parley.register());
  const conversation = (await createConversation(parley, newcomer.account)).id;
  const open = "select open_windows('user', $1, (now() at time zone 'utc')::date)";
  const { pending } = await whileLocked(parley.database, open, [newcomer.id], async () => {
    const pending = send(newcomer, conversation, "My first message.", { reply: true });
    await expectOthersUndisturbed(3_000);
    return { pending };
  });
  expect((await pending).status).toBe(201);
}, 30_000);

test("requests that create a new day's budget windows do not deadlock", async () => {
  const { parley } = app;
  const { database } = parley;
  const users = await Promise.all(Array.from({ length: 5 }, () => parley.register()));
  const conversations = await Promise.all(users.map((user) => createConversation(parley, user)));
  for (const [n, user] of users.entries())
    await app.sendMessage(user, conversations[n]?.id ?? "", "Creates a budget window.");
  for (let day = 0; day < 10; day += 1) {
    await database`delete from budget_windows where period = 'day' and scope_id = any (${users.map(({ user }) => user.id)})`;
    const reservations = users.flatMap(({ user }) =>
      [1, 2].map(
        () => database`
          select reserve_budget(gen_random_uuid(), 'user', ${user.id}, 1, 0, '{}'), pg_sleep(0.02)`,
      ),
    );
    const sends = users.map((user, n) =>
      send(createRestClient(parley, user), conversations[n]?.id ?? "", "Today", { reply: true }),
    );
    expect((await Promise.all(sends)).map(({ status }) => status)).toEqual(users.map(() => 201));
    await Promise.all(reservations);
  }
}, 30_000);
