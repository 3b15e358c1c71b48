import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createFinisher } from "../../src/modules/generations/finisher.ts";
import { getLeaseKey } from "../../src/modules/generations/pieces.ts";
import {
  type ClaimedGeneration,
  type FinalState,
  renewGenerations,
  storePieces,
} from "../../src/modules/generations/queries.ts";
import { insertAnswer } from "../support/answer.ts";
import { createTestDatabase } from "../support/postgres.ts";

const ANSWER_COUNT = 120;
const LEASE_MS = 60_000;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(8));
});
afterAll(() => database.end({ timeout: 1 }));

const finalState: FinalState = {
  content: "Done.",
  status: "complete",
  finishReason: "stop",
  model: "compatible/one",
  models: ["compatible/one"],
  usage: { input_tokens: 1, output_tokens: 2, cached_input_tokens: 0, reasoning_tokens: 0 },
  costUsd: null,
  error: null,
};

async function createRunningGeneration(owner: string): Promise<ClaimedGeneration> {
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode, last_seq) values (${conversationId}, 'direct', 'always', 1)`;
  return insertAnswer(database, { conversationId, owner });
}

const shuffle = <T>(items: T[]): T[] =>
  items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);

test("finishing answers, storing their pieces and renewing their leases at the same time never deadlocks", async () => {
  const owner = createId();
  const generations = await Promise.all(Array.from({ length: ANSWER_COUNT }, () => createRunningGeneration(owner)));
  const { finish } = createFinisher({ database });
  const storeOrRenew = (round: number) => {
    const keys = shuffle(generations).map(getLeaseKey);
    if (round % 2 === 0)
      return renewGenerations(database, owner, keys, { leaseMs: LEASE_MS, renewBelowMs: 2 * LEASE_MS });
    return storePieces(
      database,
      keys.map((key) => ({ ...key, attempt: 1, n: round, text: "Partial" })),
    );
  };
  const finishPromises = shuffle(generations).map(async (generation, index) => {
    await Bun.sleep(index);
    return finish({ generation, attempt: 1, final: finalState });
  });
  for (let round = 0; round < 40; round += 1)
    await Promise.all([storeOrRenew(0), storeOrRenew(2 * round + 1), storeOrRenew(0), storeOrRenew(2 * round + 1)]);
  const outcomes = await Promise.all(finishPromises);
  expect(outcomes.filter(({ outcome }) => outcome === "finished")).toHaveLength(ANSWER_COUNT);
  const [stored] = await database<{ done: number; events: number }[]>`
    select count(*) filter (where status = 'complete' and content = 'Done.')::int as done,
      (select count(*)::int from events where type = 'message.completed' and seq = 2) as events from messages`;
  expect(stored).toEqual({ done: ANSWER_COUNT, events: ANSWER_COUNT });
  expect(await database`select 1 from generation_pieces`).toHaveLength(0);
}, 30_000);
