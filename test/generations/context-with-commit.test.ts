import { afterAll, beforeAll, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type SendItem, sendMessages } from "../../src/modules/messages/send-queries.ts";
import type { Account } from "../support/app.ts";
import { createSendItem } from "../support/send-item.ts";
import { type Asking, startAsking } from "./start-asking.ts";

let asking: Asking;
let anna: Account;
let ben: Account;

beforeAll(async () => {
  asking = await startAsking();
  anna = await asking.parley.register(undefined, "Anna");
  ben = await asking.parley.register(undefined, "Ben");
});
afterAll(() => asking.stop());

const limits = { rows: 100, seqMax: 40, bytesMax: 1_000 };
const item = (conversationId: string, account: Account, content: string) =>
  createSendItem(conversationId, account.user.id, content);

type Found = { newest: { id: string; content: string | null }[]; user_id: string };

/** Sends as the service does, and returns the context read with the commit, without writing answers. */
async function send(items: SendItem[], context: typeof limits | null = limits) {
  const lease = { owner: createId(), leaseMs: 60_000, context };
  const outcomes = await sendMessages(asking.parley.database, items, {
    defaultModel: "compatible/one",
    budget: null,
    lease,
    waits: false,
  });
  return outcomes.map((outcome) => ({ ...outcome, context: outcome.context as Found | null }));
}

test("a context that came with the commit leads to its own message, also of two in one batch", async () => {
  const { id } = await asking.createConversation(anna, [ben], { kind: "group" });
  const first = item(id, anna, "first");
  const second = item(id, ben, "second");
  const [one, two] = await send([first, second]);
  expect(one?.context?.newest.map(({ content }) => content)).toEqual(["first"]);
  expect(two?.context?.newest.map(({ content }) => content)).toEqual(["second", null, "first"]);
  expect([one?.context?.user_id, two?.context?.user_id]).toEqual([anna.user.id, ben.user.id]);
  const [apart] = await asking.parley
    .database`select read_answer_context(${id}, ${ben.user.id}, ${second.id}, 100, 1000) as found`;
  expect(two?.context).toEqual(apart?.found);
});

test("an outsider, and who repeats a message, is given none", async () => {
  const { id } = await asking.createConversation(anna);
  const [outside] = await send([item(id, ben, "let me see")]);
  expect(outside).toMatchObject({ outcome: "not_found", context: null });
  const sent = { ...item(id, anna, "once"), clientMessageId: "c1" };
  expect((await send([sent]))[0]?.context).not.toBeNull();
  expect((await send([{ ...sent, id: createId() }]))[0]).toMatchObject({ outcome: "duplicate", context: null });
});

test("a long history and many bytes are read apart", async () => {
  const { id } = await asking.createConversation(anna);
  expect((await send([item(id, anna, "x".repeat(1_000))]))[0]?.context).not.toBeNull();
  expect((await send([item(id, anna, "y")]))[0]?.context).toBeNull();
  expect((await send([item(id, anna, "z")], { ...limits, bytesMax: 2_000 }))[0]?.context).not.toBeNull();
  expect((await send([item(id, anna, "z")], { ...limits, bytesMax: 2_000, seqMax: 7 }))[0]?.context).toBeNull();
  expect((await send([item(id, anna, "z")], null))[0]?.context).toBeNull();
});

test("the model is shown the same on either way", async () => {
  const { id } = await asking.createConversation(anna);
  for (let n = 1; n <= 18; n += 1) {
    await asking.say(anna, id, `Question ${n}?`);
    const questions = asking.readShown().filter(({ role }) => role === "user");
    expect(questions.map(({ content }) => content)).toEqual(
      Array.from({ length: n }, (_, index) => `Question ${index + 1}?`),
    );
    expect(asking.readShown().length).toBe(2 * n - 1);
  }
});
