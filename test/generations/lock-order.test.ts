import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createFinisher } from "../../src/modules/generations/finisher.ts";
import { keyOf } from "../../src/modules/generations/pieces.ts";
import {
  type ClaimedGeneration,
  type FinalState,
  renewGenerations,
  storePieces,
} from "../../src/modules/generations/queries.ts";
import { insertAnswer } from "../support/answer.ts";
import { createTestDatabase } from "../support/postgres.ts";

const ANSWERS = 120;
const LEASE_MS = 60_000;

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase(8));
});
afterAll(() => database.end({ timeout: 1 }));

const final: FinalState = {
  content: "Done.",
  status: "complete",
  finishReason: "stop",
  model: "compatible/one",
  models: ["compatible/one"],
  usage: { input_tokens: 1, output_tokens: 2, cached_input_tokens: 0, reasoning_tokens: 0 },
  costUsd: null,
  error: null,
};

async function createRunning(owner: string): Promise<ClaimedGeneration> {
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode, last_seq) values (${conversationId}, 'direct', 'always', 1)`;
  return insertAnswer(database, { conversationId, owner });
}

const shuffle = <T>(items: T[]): T[] =>
  items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);

test("ends, checkpoints and leases of the same answers never deadlock", async () => {
  const owner = createId();
  const generations = await Promise.all(Array.from({ length: ANSWERS }, () => createRunning(owner)));
  const { finish } = createFinisher({ database });
  const write = (round: number) => {
    const some = shuffle(generations).map(keyOf);
    if (round % 2 === 0) return renewGenerations(database, owner, some, { leaseMs: LEASE_MS, enoughMs: 2 * LEASE_MS });
    return storePieces(
      database,
      some.map((key) => ({ ...key, attempt: 1, n: round, text: "So far" })),
    );
  };
  const ends = shuffle(generations).map(async (generation, index) => {
    await Bun.sleep(index);
    return finish({ generation, attempt: 1, final });
  });
  for (let round = 0; round < 40; round += 1)
    await Promise.all([write(0), write(2 * round + 1), write(0), write(2 * round + 1)]);
  const outcomes = await Promise.all(ends);
  expect(outcomes.filter(({ outcome }) => outcome === "finished")).toHaveLength(ANSWERS);
  const [stored] = await database<{ done: number; events: number }[]>`
    select count(*) filter (where status = 'complete' and content = 'Done.')::int as done,
      (select count(*)::int from events where type = 'message.completed' and seq = 2) as events from messages`;
  expect(stored).toEqual({ done: ANSWERS, events: ANSWERS });
  expect(await database`select 1 from generation_pieces`).toHaveLength(0);
}, 30_000);
