import { afterAll, beforeAll, expect, test } from "bun:test";
import type { SentMessage } from "../../src/modules/messages/model.ts";
import { type ModelApp, startModelApp } from "../generations/start-model-app.ts";
import type { Account } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";
import { expectUndisturbed, measure, whileLocked } from "./bystanders.ts";

let asking: ModelApp;
let anna: Rest;
let ben: Rest;
let group: string;
let elsewhere: string;

beforeAll(async () => {
  asking = await startModelApp({ BUDGET_USER_TOKENS_PER_DAY: "1000000000000" });
  const { parley } = asking;
  anna = createRest(parley, await parley.register(undefined, "Anna"));
  ben = createRest(parley, await parley.register(undefined, "Ben"));
  group = (await createConversation(parley, anna.account, [ben.account], { reply_mode: "mention" })).id;
  elsewhere = (await createConversation(parley, ben.account)).id;
  for (const { account } of [anna, ben]) await asking.say(account, group, "A window is made.");
  await asking.say(ben.account, elsewhere, "Plans are made.");
});
afterAll(() => asking.stop());

const LOCK_WINDOWS = "select 1 from budget_windows where scope_id = $1 for update";
const whilePayerIsLocked = <T>(payer: string, work: () => Promise<T>) =>
  whileLocked(asking.parley.database, LOCK_WINDOWS, [payer], work);

const send = async (rest: Rest, id: string, content: string, more: Record<string, unknown> = {}) => {
  const { status, body } = await rest.request<SentMessage>("POST", `/conversations/${id}/messages`, {
    content,
    ...more,
  });
  return { status, seq: body.message?.seq ?? 0 };
};
const expectSent = async (rest: Rest, id: string, more: Record<string, unknown> = {}) =>
  expect((await send(rest, id, "hello", more)).status).toBe(201);

/** Answers for other users, and their messages in the same group. */
async function measureStrangers(ms: number): Promise<void> {
  const say = (account: Account, id: string) => asking.say(account, id, "And me?");
  const [unanswered, inGroup, apart] = await Promise.all([
    measure(ms, () => expectSent(ben, group, { reply: false })),
    measure(ms, () => say(ben.account, group)),
    measure(ms, () => say(ben.account, elsewhere)),
  ]);
  expectUndisturbed(unanswered);
  expectUndisturbed(inGroup);
  expectUndisturbed(apart);
}

const findDay = async (userId: string) => {
  const [row] = await asking.parley.database<{ spent: number; reserved: number }[]>`
    select spent_tokens as spent, reserved_tokens as reserved from budget_windows
    where scope_id = ${userId} and period = 'day'`;
  return row;
};

test("delays only the user who pays from it, also in a group; the user's messages keep their order", async () => {
  const before = await findDay(anna.id);
  const sent = await whilePayerIsLocked(anna.id, async () => {
    const sent = [send(anna, group, "Waits.", { reply: true })];
    await Bun.sleep(50);
    sent.push(
      send(anna, group, "Stays behind.", { reply: false }),
      send(anna, group, "So does this.", { reply: true }),
    );
    await measureStrangers(4_000);
    return sent;
  });
  const results = await Promise.all(sent);
  expect(results.map(({ status }) => status)).toEqual([201, 201, 201]);
  const numbers = results.map(({ seq }) => seq);
  expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
  await asking.waitUntil(async () => ((await findDay(anna.id))?.reserved === 0 ? true : undefined));
  expect((await findDay(anna.id))?.spent).toBeGreaterThan(before?.spent ?? 0);
}, 30_000);

test("does not delay messages without an answer", async () => {
  await whilePayerIsLocked(anna.id, async () => expectUndisturbed(await measure(1_000, () => expectSent(anna, group))));
});

test("an answer that ends meanwhile delays no one, keeps its lease, and is charged once", async () => {
  const { parley, provider } = asking;
  const pieces = Array.from({ length: 10 }, (_, n) => `w${n} `);
  provider.script("one", { pieces, pieceDelayMs: 50 }, { text: "Short." });
  const before = await findDay(anna.id);
  const seen = provider.requestsOf("one").length;
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
  await asking.waitUntil(() => (provider.requestsOf("one").length > seen ? true : undefined));
  const reserved = (await findDay(anna.id))?.reserved;
  await whilePayerIsLocked(anna.id, async () => {
    expect((await find())?.status).toBe("running");
    await measureStrangers(5_000);
    const held = await find();
    expect(held?.status).toBe("running");
    expect(held?.left_ms).toBeGreaterThan(3_000);
  });
  await asking.waitUntil(async () => ((await find())?.status === "finished" ? true : undefined));
  expect((await find())?.fence).toBe(1);
  expect(reserved).toBeGreaterThan(0);
  const after = await findDay(anna.id);
  expect(after?.reserved).toBe(0);
  expect(after?.spent).toBeGreaterThan(before?.spent ?? 0);
}, 30_000);

test("another answer that the payer requests is refused temporarily, and does not block the group", async () => {
  const { body } = await anna.request<SentMessage>("POST", `/conversations/${group}/messages`, {
    content: "Question",
    reply: false,
  });
  await whilePayerIsLocked(anna.id, async () => {
    const path = `/conversations/${group}/messages/${body.message.id}/regenerate`;
    const refusals = measure(3_000, async () => expect((await anna.request("POST", path)).status).toBe(503), 300);
    await measureStrangers(3_000);
    await refusals;
  });
}, 30_000);

test("uncommitted new windows block only their payer", async () => {
  const { parley } = asking;
  const newcomer = createRest(parley, await parley.register());
  const own = (await createConversation(parley, newcomer.account)).id;
  const open = "select open_windows('user', $1, (now() at time zone 'utc')::date)";
  const late = await whileLocked(parley.database, open, [newcomer.id], async () => {
    const late = send(newcomer, own, "The first one.", { reply: true });
    await measureStrangers(3_000);
    return { late };
  });
  expect((await late.late).status).toBe(201);
}, 30_000);

test("at the change of day, requests that lock the old window and create the new one do not deadlock", async () => {
  const { parley } = asking;
  const { database } = parley;
  const users = await Promise.all(Array.from({ length: 5 }, () => parley.register()));
  const conversations = await Promise.all(users.map((user) => createConversation(parley, user)));
  for (const [n, user] of users.entries()) await asking.say(user, conversations[n]?.id ?? "", "A window is made.");
  for (let day = 0; day < 10; day += 1) {
    await database`delete from budget_windows where period = 'day' and scope_id = any (${users.map(({ user }) => user.id)})`;
    const reservations = users.flatMap(({ user }) =>
      [1, 2].map(
        () => database`
          select reserve_budget(gen_random_uuid(), 'user', ${user.id}, 1, 0, '{}'), pg_sleep(0.02)`,
      ),
    );
    const sends = users.map((user, n) =>
      send(createRest(parley, user), conversations[n]?.id ?? "", "Today", { reply: true }),
    );
    expect((await Promise.all(sends)).map(({ status }) => status)).toEqual(users.map(() => 201));
    await Promise.all(reservations);
  }
}, 30_000);
