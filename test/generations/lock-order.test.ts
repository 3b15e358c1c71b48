import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { createFinisher } from "../../src/modules/generations/finisher.ts";
import {
  type ClaimedGeneration,
  type FinalState,
  renewLeases,
  storeCheckpoints,
} from "../../src/modules/generations/queries.ts";
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
  usage: { input_tokens: 1, output_tokens: 2 },
  costUsd: null,
  error: null,
};

async function createRunning(owner: string): Promise<ClaimedGeneration> {
  const [conversation_id, message_id, id] = [createId(), createId(), createId()];
  await database`insert into conversations (id, kind, reply_mode, last_seq) values (${conversation_id}, 'direct', 'always', 1)`;
  await database`
    insert into messages (id, conversation_id, seq, role, content, status)
    values (${message_id}, ${conversation_id}, 1, 'assistant', '', 'streaming')`;
  await database`
    insert into generations (id, message_id, conversation_id, status, owner, fence, lease_until)
    values (${id}, ${message_id}, ${conversation_id}, 'running', ${owner}, 1, now() + interval '1 min')`;
  const none = { model: null, requested_by: null, parent_id: null, is_cancelled: false };
  return { id, message_id, conversation_id, ...none, fence: 1, attempt: 0, seq: 1, content: "" };
}

const shuffle = <T>(items: T[]): T[] =>
  items
    .map((item) => ({ item, key: Math.random() }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);

test("ends, checkpoints and leases of the same answers never wait for each other in a circle", async () => {
  const owner = createId();
  const generations = await Promise.all(Array.from({ length: ANSWERS }, () => createRunning(owner)));
  const { finish } = createFinisher({ database });
  const write = (round: number) => {
    const some = shuffle(generations);
    if (round % 2 === 0) return renewLeases(database, owner, some, LEASE_MS);
    return storeCheckpoints(
      database,
      some.map((generation) => ({ ...generation, attempt: 1, text: "So far" })),
    );
  };
  const ends = shuffle(generations).map(async (generation, index) => {
    await Bun.sleep(index);
    return finish({ generation, attempt: 1, final });
  });
  for (let round = 0; round < 40; round += 1) await Promise.all([write(0), write(1), write(0), write(1)]);
  const outcomes = await Promise.all(ends);
  expect(outcomes.filter(({ outcome }) => outcome === "finished")).toHaveLength(ANSWERS);
  const [stored] = await database<{ done: number; events: number }[]>`
    select count(*) filter (where status = 'complete' and content = 'Done.')::int as done,
      (select count(*)::int from events where type = 'message.completed' and seq = 2) as events from messages`;
  expect(stored).toEqual({ done: ANSWERS, events: ANSWERS });
}, 30_000);
