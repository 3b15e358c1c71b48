import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { expectUndisturbed, measureDurations, whileLocked } from "./row-locks.ts";

let app: ModelApp;
let anna: RestClient;
let ben: RestClient;
let groupId: string;
let bensConversationId: string;

beforeAll(async () => {
  app = await startModelApp({ BUDGET_USER_TOKENS_PER_DAY: "1000000000000" });
  const { parley } = app;
  anna = createRestClient(parley, await parley.register(undefined, "Anna"));
  ben = createRestClient(parley, await parley.register(undefined, "Ben"));
  groupId = (await createConversation(parley, anna.account, [ben.account], { reply_mode: "mention" })).id;
  bensConversationId = (await createConversation(parley, ben.account)).id;
  for (const { account } of [anna, ben]) await app.sendMessage(account, groupId, "Creates a budget window.");
  await app.sendMessage(ben.account, bensConversationId, "Warms up query plans.");
});
afterAll(() => app.stop());

const LOCK_BUDGET_WINDOWS = "select 1 from budget_windows where scope_id = $1 for update";
const whileBudgetIsLocked = <T>(userId: string, work: () => Promise<T>) =>
  whileLocked(app.parley.database, LOCK_BUDGET_WINDOWS, [userId], work);

const postMessage = async (rest: RestClient, id: string, content: string, fields: Record<string, unknown> = {}) => {
  const { status, body } = await rest.request<SentMessage>("POST", `/conversations/${id}/messages`, {
    content,
    ...fields,
  });
  return { status, seq: body.message?.seq ?? 0 };
};
const expectPosted = async (rest: RestClient, id: string, fields: Record<string, unknown> = {}) =>
  expect((await postMessage(rest, id, "hello", fields)).status).toBe(201);

/** Expects that another user's messages and answers are not delayed in the same group or in another conversation. */
async function expectOthersUndisturbed(ms: number): Promise<void> {
  const sendTo = (account: Account, id: string) => app.sendMessage(account, id, "And me?");
  const results = await Promise.all([
    measureDurations(ms, () => expectPosted(ben, groupId, { reply: false })),
    measureDurations(ms, () => sendTo(ben.account, groupId)),
    measureDurations(ms, () => sendTo(ben.account, bensConversationId)),
  ]);
  for (const durationsMs of results) expectUndisturbed(durationsMs);
}

const findDayWindow = async (userId: string) => {
  const [row] = await app.parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${userId} and period = 'day'`;
  return row;
};

test("a locked budget delays only its user's messages, even in a group, and those messages keep their order", async () => {
  const windowBefore = await findDayWindow(anna.id);
  const pendingSends = await whileBudgetIsLocked(anna.id, async () => {
    const sends = [postMessage(anna, groupId, "Waits.", { reply: true })];
    await Bun.sleep(50);
    sends.push(
      postMessage(anna, groupId, "Stays behind.", { reply: false }),
      postMessage(anna, groupId, "So does this.", { reply: true }),
    );
    await expectOthersUndisturbed(4_000);
    return sends;
  });
  const results = await Promise.all(pendingSends);
  expect(results.map(({ status }) => status)).toEqual([201, 201, 201]);
  const seqs = results.map(({ seq }) => seq);
  expect(seqs).toEqual(seqs.toSorted((a, b) => a - b));
  await app.waitForValue(async () => ((await findDayWindow(anna.id))?.reserved === 0 ? true : undefined));
  expect((await findDayWindow(anna.id))?.spent).toBeGreaterThan(windowBefore?.spent ?? 0);
}, 30_000);

test("a locked budget does not delay messages without an answer", async () => {
  await whileBudgetIsLocked(anna.id, async () =>
    expectUndisturbed(await measureDurations(1_000, () => expectPosted(anna, groupId))),
  );
});

test("an answer that finishes while the budget is locked delays no other user, keeps its lease, and is charged once", async () => {
  const { parley, provider } = app;
  const pieces = Array.from({ length: 10 }, (_, n) => `w${n} `);
  provider.script("one", { pieces, pieceDelayMs: 50 }, { text: "Short." });
  const windowBefore = await findDayWindow(anna.id);
  const requestCountBefore = provider.listRequests("one").length;
  const { body } = await anna.request<SentMessage>("POST", `/conversations/${groupId}/messages`, {
    content: "Talk.",
    reply: true,
  });
  const findGeneration = async () => {
    const [row] = await parley.database<{ status: string; fence: number; left_ms: number }[]>`
      select status, fence, (extract(epoch from lease_until - now()) * 1000)::int as left_ms
      from generations where message_id = ${body.reply?.id ?? ""}`;
    return row;
  };
  await app.waitForValue(() => (provider.listRequests("one").length > requestCountBefore ? true : undefined));
  const reserved = (await findDayWindow(anna.id))?.reserved;
  await whileBudgetIsLocked(anna.id, async () => {
    expect((await findGeneration())?.status).toBe("running");
    await expectOthersUndisturbed(5_000);
    const generation = await findGeneration();
    expect(generation?.status).toBe("running");
    expect(generation?.left_ms).toBeGreaterThan(3_000);
  });
  await app.waitForValue(async () => ((await findGeneration())?.status === "finished" ? true : undefined));
  expect((await findGeneration())?.fence).toBe(1);
  expect(reserved).toBeGreaterThan(0);
  const windowAfter = await findDayWindow(anna.id);
  expect(windowAfter?.reserved).toBe(0);
  expect(windowAfter?.spent).toBeGreaterThan(windowBefore?.spent ?? 0);
}, 30_000);

test("a regeneration requested while the budget is locked returns 503, and does not block the group", async () => {
  const { body } = await anna.request<SentMessage>("POST", `/conversations/${groupId}/messages`, {
    content: "Question",
    reply: false,
  });
  await whileBudgetIsLocked(anna.id, async () => {
    const path = `/conversations/${groupId}/messages/${body.message.id}/regenerate`;
    const rejections = measureDurations(
      3_000,
      async () => expect((await anna.request("POST", path)).status).toBe(503),
      300,
    );
    await expectOthersUndisturbed(3_000);
    await rejections;
  });
}, 30_000);

test("new budget windows that are not committed yet block only their user", async () => {
  const { parley } = app;
  const newcomer = createRestClient(parley, await parley.register());
  const conversation = (await createConversation(parley, newcomer.account)).id;
  const insertWindows = "select open_windows('user', $1, (now() at time zone 'utc')::date)";
  const { pendingSend } = await whileLocked(parley.database, insertWindows, [newcomer.id], async () => {
    const pendingSend = postMessage(newcomer, conversation, "My first message.", { reply: true });
    await expectOthersUndisturbed(3_000);
    return { pendingSend };
  });
  expect((await pendingSend).status).toBe(201);
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
    const pendingSends = users.map((user, n) =>
      postMessage(createRestClient(parley, user), conversations[n]?.id ?? "", "Today", { reply: true }),
    );
    expect((await Promise.all(pendingSends)).map(({ status }) => status)).toEqual(users.map(() => 201));
    await Promise.all(reservations);
  }
}, 30_000);
