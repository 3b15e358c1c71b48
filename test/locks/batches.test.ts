import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { ITEM_LOCKED, LOCKED } from "../../src/db/group-commit.ts";
import { createId } from "../../src/lib/id.ts";
import { releaseReservations } from "../../src/modules/budgets/queries.ts";
import type { BudgetRules } from "../../src/modules/budgets/rules.ts";
import { finishAnswers } from "../../src/modules/generations/finisher.ts";
import type { ClaimedGeneration } from "../../src/modules/generations/queries.ts";
import { type SendItem, sendMessages } from "../../src/modules/messages/send-queries.ts";
import { insertAnswer } from "../support/answer.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createSendItem } from "../support/send-item.ts";
import { LOCK_CONVERSATIONS, whileLocked } from "./row-locks.ts";

// Batch statements must skip locked rows. In these tests, a statement that waits for a lock fails with a lock timeout.
const MODEL = "compatible/one";
const budget: BudgetRules = {
  limits: { day_tokens: 1_000_000 },
  key_limits: { day_tokens: 1_000_000 },
  answer_tokens: 100,
  prompt_messages: 10,
  prompt_tokens_extra: 0,
  default_model: MODEL,
  models: { [MODEL]: [1, 1, 1_000], "offline/documents": [0, 0, 1_000] },
};

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(6));
});
afterAll(() => database.end({ timeout: 1 }));

async function createUser(): Promise<string> {
  const id = createId();
  await database`
    insert into users (id, email, email_key, display_name, password_hash) values (${id}, ${id}, ${id}, 'X', 'x')`;
  return id;
}

async function createConversation(users: string[], replyMode = "always"): Promise<string> {
  const id = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${id}, 'group', ${replyMode})`;
  for (const user of users)
    await database`insert into members (conversation_id, user_id, role) values (${id}, ${user}, 'owner')`;
  return id;
}

const send = async (items: SendItem[], waits = false): Promise<string[]> =>
  (await sendMessages(database, items, { defaultModel: MODEL, budget, lease: null, shouldWait: waits })).map(
    ({ outcome }) => outcome,
  );

const LOCK_WINDOWS = "select 1 from budget_windows where scope_id = $1 for update";
const OPEN_WINDOWS = "select open_windows('user', $1, (now() at time zone 'utc')::date)";

describe("sending a batch", () => {
  test("skips messages in locked conversations", async () => {
    const user = await createUser();
    const [locked, unlocked] = [await createConversation([user]), await createConversation([user])];
    const items = [locked, unlocked, locked].map((id) => createSendItem(id, user, "x", { reply: false }));
    await whileLocked(database, LOCK_CONVERSATIONS, [[locked]], async () =>
      expect(await send(items)).toEqual(["locked", "created", "locked"]),
    );
    expect(await send(items.filter(({ conversationId }) => conversationId === locked))).toEqual(["created", "created"]);
  });

  test.each([
    ["locked", LOCK_WINDOWS],
    ["new and uncommitted", OPEN_WINDOWS],
  ])(
    "skips messages whose payer's budget windows are %s, and the payer's later messages in that conversation",
    async (_, lock) => {
      const [lockedPayer, freePayer] = [await createUser(), await createUser()];
      const [group, other] = [
        await createConversation([lockedPayer, freePayer]),
        await createConversation([lockedPayer, freePayer]),
      ];
      if (lock === LOCK_WINDOWS) await send([createSendItem(group, lockedPayer, "Creates a budget window.")]);
      const createItems = () => [
        createSendItem(group, lockedPayer, "unanswered", { reply: false }),
        createSendItem(group, lockedPayer, "answered"),
        createSendItem(group, freePayer, "answered"),
        createSendItem(group, lockedPayer, "behind", { reply: false }),
        createSendItem(group, freePayer, "unanswered", { reply: false }),
        createSendItem(other, lockedPayer, "elsewhere", { reply: false }),
        createSendItem(other, lockedPayer, "with a free model", { model: "offline/documents" }),
      ];
      const outcomes = ["created", "item_locked", "created", "item_locked", "created", "created", "created"];
      await whileLocked(database, lock, [lockedPayer], async () => {
        expect(await send(createItems())).toEqual(outcomes);
        // Even a batch that waits for its conversation's lock doesn't wait for the windows.
        expect(await send(createItems().slice(0, 5), true)).toEqual(outcomes.slice(0, 5));
      });
      expect(await send(createItems())).toEqual(outcomes.map(() => "created"));
    },
  );

  test("needs the payer's budget windows only if a model answers", async () => {
    const user = await createUser();
    const [mention, never] = [await createConversation([user], "mention"), await createConversation([user], "never")];
    await send([createSendItem(mention, user, "Creates a budget window.")]);
    await whileLocked(database, LOCK_WINDOWS, [user], async () =>
      expect(
        await send([
          createSendItem(mention, user, "x", { reply: null }),
          createSendItem(never, user, "x", { reply: null, isMentioned: true }),
          createSendItem(mention, user, "@ai", { reply: null, isMentioned: true }),
          createSendItem(never, user, "x", { reply: true }),
        ]),
      ).toEqual(["created", "created", "item_locked", "item_locked"]),
    );
  });

  test("skips messages sent with a locked API key, but not the user's other messages", async () => {
    const [user, key] = [await createUser(), createId()];
    const [one, two] = [await createConversation([user]), await createConversation([user])];
    const createItems = () => [createSendItem(one, user, "x", { keyId: key }), createSendItem(two, user, "x")];
    expect(await send(createItems())).toEqual(["created", "created"]);
    await whileLocked(database, LOCK_WINDOWS, [key], async () =>
      expect(await send(createItems())).toEqual(["item_locked", "created"]),
    );
  });

  test("is not blocked by an API key shared with a user whose windows are locked", async () => {
    const [lockedPayer, freePayer, key] = [await createUser(), await createUser(), createId()];
    const conversation = await createConversation([freePayer]);
    const createItem = () => createSendItem(conversation, freePayer, "x", { keyId: key });
    expect(await send([createItem()])).toEqual(["created"]);
    await database`select reserve_budget(gen_random_uuid(), 'user', ${lockedPayer}, 1, 0, '{}')`;
    const reserved = await whileLocked(database, LOCK_WINDOWS, [lockedPayer], async () => {
      const reserving = database`
        select reserve_budgets(gen_random_uuid(), ${lockedPayer}, ${key}, 1, 0, ${database.json(budget)}) as exceeded`.execute();
      await Bun.sleep(100);
      expect(await send([createItem()])).toEqual(["created"]);
      return { reserving };
    });
    expect([...(await reserved.reserving)]).toEqual([{ exceeded: null }]);
  });

  test("creates a limited number of new windows at a time, and eventually all of them", async () => {
    const users = await Promise.all(Array.from({ length: 150 }, createUser));
    const conversation = await createConversation(users);
    let items = users.map((user) => createSendItem(conversation, user, "x"));
    const counts: number[] = [];
    while (items.length > 0) {
      const outcomes = await send(items);
      expect(new Set(outcomes).isSubsetOf(new Set(["created", "item_locked"]))).toBe(true);
      items = items.filter((_, n) => outcomes[n] === "item_locked");
      counts.push(items.length);
    }
    expect(counts).toEqual([50, 0]);
  });
});

describe("finishing a batch of answers", () => {
  const finish = (generations: ClaimedGeneration[], waits = false) =>
    finishAnswers(
      database,
      generations.map((generation) => ({
        generation,
        attempt: 1,
        final: {
          content: "Done.",
          status: "complete",
          finishReason: "stop",
          model: MODEL,
          models: [MODEL],
          usage: { input_tokens: 1, output_tokens: 2, cached_input_tokens: 0, reasoning_tokens: 0 },
          costUsd: null,
          error: null,
        },
      })),
      waits,
    ).then((results) => results.map((result) => (typeof result === "symbol" ? result : result.outcome)));
  const createAnswer = async (conversationId: string, requestedBy: string, seq = 1) => {
    await database`update conversations set last_seq = ${seq} where id = ${conversationId}`;
    return insertAnswer(database, { conversationId, requestedBy, seq });
  };

  test("skips answers in locked conversations", async () => {
    const user = await createUser();
    const [locked, unlocked] = [await createConversation([user]), await createConversation([user])];
    const answers = [await createAnswer(locked, user), await createAnswer(unlocked, user)];
    await whileLocked(database, LOCK_CONVERSATIONS, [[locked]], async () =>
      expect(await finish(answers)).toEqual([LOCKED, "finished"]),
    );
    // Finishing an answer again finds the stored answer.
    expect(await finish(answers)).toEqual(["finished", "finished"]);
  });

  test.each([false, true])(
    "skips answers whose generation is locked, whether or not the batch waits for locks (%p)",
    async (waits) => {
      const user = await createUser();
      const conversation = await createConversation([user]);
      const answers = [await createAnswer(conversation, user, 1), await createAnswer(conversation, user, 2)];
      await whileLocked(
        database,
        "update generations set cancel_requested_at = now() where id = $1",
        [answers[0]?.id ?? ""],
        async () => expect(await finish(answers, waits)).toEqual([ITEM_LOCKED, "finished"]),
      );
      expect(await finish(answers.slice(0, 1), waits)).toEqual(["finished"]);
    },
  );

  test.each([
    ["locked", LOCK_WINDOWS],
    ["new and uncommitted", OPEN_WINDOWS],
  ])("skips answers whose budget windows are %s, and charges each answer once", async (_, lock) => {
    const [lockedPayer, freePayer] = [await createUser(), await createUser()];
    const conversation = await createConversation([lockedPayer, freePayer]);
    if (lock === LOCK_WINDOWS) await finish([await createAnswer(conversation, lockedPayer, 1)]);
    const answers = [await createAnswer(conversation, lockedPayer, 2), await createAnswer(conversation, freePayer, 3)];
    await whileLocked(database, lock, [lockedPayer], async () => {
      expect(await finish(answers.slice(0, 1), true)).toEqual([ITEM_LOCKED]);
      expect(await finish(answers)).toEqual([ITEM_LOCKED, "finished"]);
    });
    // Finishing an answer again finds the stored answer.
    expect(await finish(answers)).toEqual(["finished", "finished"]);
    const spent = await database<{ scope_id: string; spent: number }[]>`
      select scope_id, spent_tokens as spent from budget_windows where period = 'day' and scope_id in ${database([lockedPayer, freePayer])}`;
    const spentByPayer = new Map(spent.map((row) => [row.scope_id, row.spent]));
    expect([spentByPayer.get(lockedPayer), spentByPayer.get(freePayer)]).toEqual([lock === LOCK_WINDOWS ? 6 : 3, 3]);
  });
});

test("a sweep releases all reservations except those with locked windows, and holds no lock afterwards", async () => {
  await database`delete from budget_reservations`;
  const users = await Promise.all(Array.from({ length: 250 }, createUser));
  await database`
    select reserve_budget(gen_random_uuid(), 'user', u, 10, 0, '{}') from unnest(${users}::uuid[]) u`;
  const listReserved = async () =>
    (
      await database<{ scope_id: string }[]>`
        select scope_id from budget_windows where reserved_tokens > 0 and period = 'day' and scope_id in ${database(users)}`
    ).map((row) => row.scope_id);
  const locked = users[77] ?? "";
  const releaseAll = async () => {
    let total = 0;
    for (let afterId: string | null = "00000000-0000-0000-0000-000000000000"; afterId !== null; ) {
      const from: string = afterId;
      const { freed, last_id } = await releaseReservations(database, from);
      total += freed;
      afterId = last_id;
    }
    return total;
  };
  await whileLocked(database, LOCK_WINDOWS, [locked], async () => {
    expect(await releaseAll()).toBe(249);
    expect(await listReserved()).toEqual([locked]);
  });
  expect(await releaseAll()).toBe(1);
  expect(await listReserved()).toEqual([]);
});
