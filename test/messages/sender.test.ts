import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { createSender } from "../../src/modules/messages/sender.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

async function createMember(): Promise<{ caller: Caller; conversationId: string }> {
  const [id, conversationId] = [createId(), createId()];
  await database`
    insert into users (id, email, email_key, display_name, password_hash) values (${id}, ${id}, ${id}, 'X', 'x')`;
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'direct', 'never')`;
  await database`insert into members (conversation_id, user_id, role) values (${conversationId}, ${id}, 'owner')`;
  return { caller: { user: { id, display_name: "X" }, scopes: null } as Caller, conversationId };
}

/** Creates a sender whose listeners all throw. */
function createSenderWithFailingListeners() {
  const leasedCounts: number[] = [];
  let openLeases = 0;
  const throwError = () => {
    throw new Error("A listener failed.");
  };
  const sender = createSender({
    database,
    events: { publishIfSubscribed: throwError },
    metrics: createMetrics({ version: "test", commit: "test" }),
    log: silentLog,
    defaultModel: "compatible/one",
    budgets: { rules: null, rejectReservation: throwError },
    acquireLease(answers) {
      leasedCounts.push(answers);
      openLeases += 1;
      const release = () => {
        openLeases -= 1;
      };
      return { owner: createId(), leaseMs: 1_000, context: null, release };
    },
    onAnswerCreated: throwError,
  });
  return { sender, leasedCounts, countOpenLeases: () => openLeases };
}

test("a message is stored once even if publishing it fails after the commit", async () => {
  const { caller, conversationId } = await createMember();
  const { sender } = createSenderWithFailingListeners();
  const results = await Promise.all(
    Array.from({ length: 10 }, (_, n) => sender.send(caller, conversationId, { content: `${n}`, reply: n === 5 })),
  );
  expect(results.map((result) => ("message" in result ? result.message.content : result))).toEqual(
    Array.from({ length: 10 }, (_, n) => `${n}`),
  );
  const [row] = await database`select count(*)::int as count from messages where conversation_id = ${conversationId}`;
  expect(row?.count).toBe(11);
  await sender.close();
});

test("a lease is acquired for messages that may be answered, and released after the commit succeeds or fails", async () => {
  const { caller, conversationId } = await createMember();
  const { sender, leasedCounts, countOpenLeases } = createSenderWithFailingListeners();
  await Promise.all([
    sender.send(caller, conversationId, { content: "1", reply: false }),
    sender.send(caller, conversationId, { content: "2", reply: true }),
    sender.send(caller, conversationId, { content: "3" }),
  ]);
  expect(leasedCounts).toEqual([2]);
  await sender.send(caller, conversationId, { content: "4", reply: false });
  expect(leasedCounts).toEqual([2]);
  await database`alter table messages rename to renamed_messages`;
  await expect(sender.send(caller, conversationId, { content: "5", reply: true })).rejects.toThrow();
  await database`alter table renamed_messages rename to messages`;
  expect(leasedCounts).toEqual([2, 1]);
  expect(countOpenLeases()).toBe(0);
  await sender.close();
});
