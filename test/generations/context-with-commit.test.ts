import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type SendItem, sendMessages } from "../../src/modules/messages/send-queries.ts";
import type { Account } from "../support/app.ts";
import { createSendItem } from "../support/send-item.ts";
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

const limits = { rowsMax: 100, seqMax: 40, bytesMax: 1_000 };
const createItem = (conversationId: string, account: Account, content: string) =>
  createSendItem(conversationId, account.user.id, content);

type StoredContext = { newest: { id: string; content: string | null }[]; user_id: string };

/** Sends messages without generating answers. @returns the outcomes, with the contexts that the commit returned. */
async function sendBatch(items: SendItem[], context: typeof limits | null = limits) {
  const lease = { owner: createId(), leaseMs: 60_000, context };
  const outcomes = await sendMessages(app.parley.database, items, {
    defaultModel: "compatible/one",
    budget: null,
    lease,
    shouldWait: false,
  });
  return outcomes.map((outcome) => ({ ...outcome, context: outcome.context as StoredContext | null }));
}

test("a batch's commit returns a separate context for each message", async () => {
  const { id } = await app.createConversation(anna, [ben], { kind: "group" });
  const firstItem = createItem(id, anna, "first");
  const secondItem = createItem(id, ben, "second");
  const [firstOutcome, secondOutcome] = await sendBatch([firstItem, secondItem]);
  expect(firstOutcome?.context?.newest.map(({ content }) => content)).toEqual(["first"]);
  expect(secondOutcome?.context?.newest.map(({ content }) => content)).toEqual(["second", null, "first"]);
  expect([firstOutcome?.context?.user_id, secondOutcome?.context?.user_id]).toEqual([anna.user.id, ben.user.id]);
  const [row] = await app.parley
    .database`select read_answer_context(${id}, ${ben.user.id}, ${secondItem.id}, 100, 1000) as found`;
  expect(secondOutcome?.context).toEqual(row?.found);
});

test("no context is returned to an outsider or for a resent message", async () => {
  const { id } = await app.createConversation(anna);
  const [outsiderOutcome] = await sendBatch([createItem(id, ben, "let me see")]);
  expect(outsiderOutcome).toMatchObject({ outcome: "not_found", context: null });
  const item = { ...createItem(id, anna, "once"), clientMessageId: "c1" };
  expect((await sendBatch([item]))[0]?.context).not.toBeNull();
  expect((await sendBatch([{ ...item, id: createId() }]))[0]).toMatchObject({ outcome: "duplicate", context: null });
});

test("the commit returns no context if the history is long or exceeds the byte limit", async () => {
  const { id } = await app.createConversation(anna);
  expect((await sendBatch([createItem(id, anna, "x".repeat(1_000))]))[0]?.context).not.toBeNull();
  expect((await sendBatch([createItem(id, anna, "y")]))[0]?.context).toBeNull();
  expect((await sendBatch([createItem(id, anna, "z")], { ...limits, bytesMax: 2_000 }))[0]?.context).not.toBeNull();
  expect(
    (await sendBatch([createItem(id, anna, "z")], { ...limits, bytesMax: 2_000, seqMax: 7 }))[0]?.context,
  ).toBeNull();
  expect((await sendBatch([createItem(id, anna, "z")], null))[0]?.context).toBeNull();
});

test("the model receives the whole history, whether or not the commit returned it", async () => {
  const { id } = await app.createConversation(anna);
  for (let n = 1; n <= 18; n += 1) {
    await app.sendMessage(anna, id, `Question ${n}?`);
    const questions = app.getReceivedMessages().filter(({ role }) => role === "user");
    expect(questions.map(({ content }) => content)).toEqual(
      Array.from({ length: n }, (_, index) => `Question ${index + 1}?`),
    );
    expect(app.getReceivedMessages().length).toBe(2 * n - 1);
  }
});
