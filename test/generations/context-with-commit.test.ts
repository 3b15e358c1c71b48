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

const limits = { rows: 100, seqMax: 40, bytesMax: 1_000 };
const item = (conversationId: string, account: Account, content: string) =>
  createSendItem(conversationId, account.user.id, content);

type Found = { newest: { id: string; content: string | null }[]; user_id: string };

/** Sends as the service does, and returns the context read with the commit, without generating answers. */
async function send(items: SendItem[], context: typeof limits | null = limits) {
  const lease = { owner: createId(), leaseMs: 60_000, context };
  const outcomes = await sendMessages(app.parley.database, items, {
    defaultModel: "compatible/one",
    budget: null,
    lease,
    waits: false,
  });
  return outcomes.map((outcome) => ({ ...outcome, context: outcome.context as Found | null }));
}

test("the context read with a commit belongs to its own message, also for two in one batch", async () => {
  const { id } = await app.createConversation(anna, [ben], { kind: "group" });
  const first = item(id, anna, "first");
  const second = item(id, ben, "second");
  const [one, two] = await send([first, second]);
  expect(one?.context?.newest.map(({ content }) => content)).toEqual(["first"]);
  expect(two?.context?.newest.map(({ content }) => content)).toEqual(["second", null, "first"]);
  expect([one?.context?.user_id, two?.context?.user_id]).toEqual([anna.user.id, ben.user.id]);
  const [apart] = await app.parley
    .database`select read_answer_context(${id}, ${ben.user.id}, ${second.id}, 100, 1000) as found`;
  expect(two?.context).toEqual(apart?.found);
});

test("is not returned to an outsider, or for a repeated message", async () => {
  const { id } = await app.createConversation(anna);
  const [outside] = await send([item(id, ben, "let me see")]);
  expect(outside).toMatchObject({ outcome: "not_found", context: null });
  const sent = { ...item(id, anna, "once"), clientMessageId: "c1" };
  expect((await send([sent]))[0]?.context).not.toBeNull();
  expect((await send([{ ...sent, id: createId() }]))[0]).toMatchObject({ outcome: "duplicate", context: null });
});

test("a long history or many bytes are read separately", async () => {
  const { id } = await app.createConversation(anna);
  expect((await send([item(id, anna, "x".repeat(1_000))]))[0]?.context).not.toBeNull();
  expect((await send([item(id, anna, "y")]))[0]?.context).toBeNull();
  expect((await send([item(id, anna, "z")], { ...limits, bytesMax: 2_000 }))[0]?.context).not.toBeNull();
  expect((await send([item(id, anna, "z")], { ...limits, bytesMax: 2_000, seqMax: 7 }))[0]?.context).toBeNull();
  expect((await send([item(id, anna, "z")], null))[0]?.context).toBeNull();
});

test("the model receives the same context either way", async () => {
  const { id } = await app.createConversation(anna);
  for (let n = 1; n <= 18; n += 1) {
    await app.say(anna, id, `Question ${n}?`);
    const questions = app.readReceived().filter(({ role }) => role === "user");
    expect(questions.map(({ content }) => content)).toEqual(
      Array.from({ length: n }, (_, index) => `Question ${index + 1}?`),
    );
    expect(app.readReceived().length).toBe(2 * n - 1);
  }
});
