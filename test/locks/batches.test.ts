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

const sendBatch = async (items: SendItem[], shouldWait = false): Promise<string[]> =>
  (await sendMessages(database, items, { defaultModel: MODEL, budget, lease: null, shouldWait })).map(
    ({ outcome }) => outcome,
  );

const LOCK_BUDGET_WINDOWS = "select 1 from budget_windows where scope_id = $1 for update";
const INSERT_BUDGET_WINDOWS = "select open_windows('user', $1, (now() at time zone 'utc')::date)";

describe("sending a batch", () => {
  test("skips messages in locked conversations", async () => {
    const user = await createUser();
    const [lockedId, unlockedId] = [await createConversation([user]), await createConversation([user])];
    const items = [lockedId, unlockedId, lockedId].map((id) => createSendItem(id, user, "x", { reply: false }));
    await whileLocked(database, LOCK_CONVERSATIONS, [[lockedId]], async () =>
      expect(await sendBatch(items)).toEqual(["locked", "created", "locked"]),
    );
    expect(await sendBatch(items.filter(({ conversationId }) => conversationId === lockedId))).toEqual([
      "created",
      "created",
    ]);
  });

  test.each([
    ["locked", LOCK_BUDGET_WINDOWS],
    ["new and uncommitted", INSERT_BUDGET_WINDOWS],
  ])(
    "skips messages whose payer's budget windows are %s, and the payer's later messages in that conversation",
    async (_, lock) => {
      const [lockedPayer, freePayer] = [await createUser(), await createUser()];
      const [groupId, otherConversationId] = [
        await createConversation([lockedPayer, freePayer]),
        await createConversation([lockedPayer, freePayer]),
      ];
      if (lock === LOCK_BUDGET_WINDOWS)
        await sendBatch([createSendItem(groupId, lockedPayer, "Creates a budget window.")]);
      const createItems = () => [
        createSendItem(groupId, lockedPayer, "unanswered", { reply: false }),
        createSendItem(groupId, lockedPayer, "answered"),
        createSendItem(groupId, freePayer, "answered"),
        createSendItem(groupId, lockedPayer, "behind", { reply: false }),
        createSendItem(groupId, freePayer, "unanswered", { reply: false }),
        createSendItem(otherConversationId, lockedPayer, "elsewhere", { reply: false }),
        createSendItem(otherConversationId, lockedPayer, "with a free model", { model: "offline/documents" }),
      ];
      const outcomes = ["created", "item_locked", "created", "item_locked", "created", "created", "created"];
      await whileLocked(database, lock, [lockedPayer], async () => {
        expect(await sendBatch(createItems())).toEqual(outcomes);
        // Even a batch that waits for its conversation's lock doesn't wait for the windows.
        expect(await sendBatch(createItems().slice(0, 5), true)).toEqual(outcomes.slice(0, 5));
      });
      expect(await sendBatch(createItems())).toEqual(outcomes.map(() => "created"));
    },
  );

  test("needs the payer's budget windows only if a model answers", async () => {
    const user = await createUser();
    const [mentionConversationId, silentConversationId] = [
      await createConversation([user], "mention"),
      await createConversation([user], "never"),
    ];
    await sendBatch([createSendItem(mentionConversationId, user, "Creates a budget window.")]);
    await whileLocked(database, LOCK_BUDGET_WINDOWS, [user], async () =>
      expect(
        await sendBatch([
          createSendItem(mentionConversationId, user, "x", { reply: null }),
          createSendItem(silentConversationId, user, "x", { reply: null, mentionsAssistant: true }),
          createSendItem(mentionConversationId, user, "@ai", { reply: null, mentionsAssistant: true }),
          createSendItem(silentConversationId, user, "x", { reply: true }),
        ]),
      ).toEqual(["created", "created", "item_locked", "item_locked"]),
    );
  });

  test("skips messages sent with a locked API key, but not the user's other messages", async () => {
    const [user, key] = [await createUser(), createId()];
    const [firstConversationId, secondConversationId] = [
      await createConversation([user]),
      await createConversation([user]),
    ];
    const createItems = () => [
      createSendItem(firstConversationId, user, "x", { keyId: key }),
      createSendItem(secondConversationId, user, "x"),
    ];
    expect(await sendBatch(createItems())).toEqual(["created", "created"]);
    await whileLocked(database, LOCK_BUDGET_WINDOWS, [key], async () =>
      expect(await sendBatch(createItems())).toEqual(["item_locked", "created"]),
    );
  });

  test("is not blocked by an API key shared with a user whose windows are locked", async () => {
    const [lockedPayer, freePayer, key] = [await createUser(), await createUser(), createId()];
    const conversationId = await createConversation([freePayer]);
    const createItem = () => createSendItem(conversationId, freePayer, "x", { keyId: key });
    expect(await sendBatch([createItem()])).toEqual(["created"]);
    await database`select reserve_budget(gen_random_uuid(), 'user', ${lockedPayer}, 1, 0, '{}')`;
    const { reservation } = await whileLocked(database, LOCK_BUDGET_WINDOWS, [lockedPayer], async () => {
      const reservation = database`
        select reserve_budgets(gen_random_uuid(), ${lockedPayer}, ${key}, 1, 0, ${database.json(budget)}) as exceeded`.execute();
      await Bun.sleep(100);
      expect(await sendBatch([createItem()])).toEqual(["created"]);
      return { reservation };
    });
    expect([...(await reservation)]).toEqual([{ exceeded: null }]);
  });

  test("creates a limited number of new windows at a time, and eventually all of them", async () => {
    const users = await Promise.all(Array.from({ length: 150 }, createUser));
    const conversationId = await createConversation(users);
    let items = users.map((user) => createSendItem(conversationId, user, "x"));
    const remainingCounts: number[] = [];
    while (items.length > 0) {
      const outcomes = await sendBatch(items);
      expect(new Set(outcomes).isSubsetOf(new Set(["created", "item_locked"]))).toBe(true);
      items = items.filter((_, n) => outcomes[n] === "item_locked");
      remainingCounts.push(items.length);
    }
    expect(remainingCounts).toEqual([50, 0]);
  });
});

describe("finishing a batch of answers", () => {
  const finishBatch = (generations: ClaimedGeneration[], shouldWait = false) =>
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
      shouldWait,
    ).then((results) => results.map((result) => (typeof result === "symbol" ? result : result.outcome)));
  const createAnswer = async (conversationId: string, requestedBy: string, seq = 1) => {
    await database`update conversations set last_seq = ${seq} where id = ${conversationId}`;
    return insertAnswer(database, { conversationId, requestedBy, seq });
  };

  test("skips answers in locked conversations", async () => {
    const user = await createUser();
    const [lockedId, unlockedId] = [await createConversation([user]), await createConversation([user])];
    const answers = [await createAnswer(lockedId, user), await createAnswer(unlockedId, user)];
    await whileLocked(database, LOCK_CONVERSATIONS, [[lockedId]], async () =>
      expect(await finishBatch(answers)).toEqual([LOCKED, "finished"]),
    );
    // Finishing an answer again finds the stored answer.
    expect(await finishBatch(answers)).toEqual(["finished", "finished"]);
  });

  test.each([false, true])(
    "skips answers whose generation is locked, whether or not the batch waits for locks (%p)",
    async (shouldWait) => {
      const user = await createUser();
      const conversationId = await createConversation([user]);
      const answers = [await createAnswer(conversationId, user, 1), await createAnswer(conversationId, user, 2)];
      await whileLocked(
        database,
        "update generations set cancel_requested_at = now() where id = $1",
        [answers[0]?.id ?? ""],
        async () => expect(await finishBatch(answers, shouldWait)).toEqual([ITEM_LOCKED, "finished"]),
      );
      expect(await finishBatch(answers.slice(0, 1), shouldWait)).toEqual(["finished"]);
    },
  );

  test.each([
    ["locked", LOCK_BUDGET_WINDOWS],
    ["new and uncommitted", INSERT_BUDGET_WINDOWS],
  ])("skips answers whose budget windows are %s, and charges each answer once", async (_, lock) => {
    const [lockedPayer, freePayer] = [await createUser(), await createUser()];
    const conversationId = await createConversation([lockedPayer, freePayer]);
    if (lock === LOCK_BUDGET_WINDOWS) await finishBatch([await createAnswer(conversationId, lockedPayer, 1)]);
    const answers = [
      await createAnswer(conversationId, lockedPayer, 2),
      await createAnswer(conversationId, freePayer, 3),
    ];
    await whileLocked(database, lock, [lockedPayer], async () => {
      expect(await finishBatch(answers.slice(0, 1), true)).toEqual([ITEM_LOCKED]);
      expect(await finishBatch(answers)).toEqual([ITEM_LOCKED, "finished"]);
    });
    // Finishing an answer again finds the stored answer.
    expect(await finishBatch(answers)).toEqual(["finished", "finished"]);
    const windows = await database<{ scope_id: string; spent: number }[]>`
      select scope_id, spent_tokens as spent from budget_windows where period = 'day' and scope_id in ${database([lockedPayer, freePayer])}`;
    const spentByPayer = new Map(windows.map((row) => [row.scope_id, row.spent]));
    expect([spentByPayer.get(lockedPayer), spentByPayer.get(freePayer)]).toEqual([
      lock === LOCK_BUDGET_WINDOWS ? 6 : 3,
      3,
    ]);
  });
});

test("a sweep releases all reservations except those with locked windows, and holds no lock afterwards", async () => {
  await database`delete from budget_reservations`;
  const users = await Promise.all(Array.from({ length: 250 }, createUser));
  await database`
    select reserve_budget(gen_random_uuid(), 'user', u, 10, 0, '{}') from unnest(${users}::uuid[]) u`;
  const listReservedUsers = async () =>
    (
      await database<{ scope_id: string }[]>`
        select scope_id from budget_windows where reserved_tokens > 0 and period = 'day' and scope_id in ${database(users)}`
    ).map((row) => row.scope_id);
  const lockedUser = users[77] ?? "";
  const releaseAll = async () => {
    let freedCount = 0;
    for (let afterId: string | null = "00000000-0000-0000-0000-000000000000"; afterId !== null; ) {
      const pageStartId: string = afterId;
      const { freed, last_id } = await releaseReservations(database, pageStartId);
      freedCount += freed;
      afterId = last_id;
    }
    return freedCount;
  };
  await whileLocked(database, LOCK_BUDGET_WINDOWS, [lockedUser], async () => {
    expect(await releaseAll()).toBe(249);
    expect(await listReservedUsers()).toEqual([lockedUser]);
  });
  expect(await releaseAll()).toBe(1);
  expect(await listReservedUsers()).toEqual([]);
});
