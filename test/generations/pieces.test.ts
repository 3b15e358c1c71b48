import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { keyOf } from "../../src/modules/generations/pieces.ts";
import { type ClaimedGeneration, claimOrphans, storePieces } from "../../src/modules/generations/queries.ts";
import { insertAnswer } from "../support/answer.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
let generation: ClaimedGeneration;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));
beforeEach(async () => {
  const conversationId = createId();
  await database`insert into conversations (id, kind, reply_mode) values (${conversationId}, 'direct', 'always')`;
  generation = await insertAnswer(database, { conversationId });
});

const store = async (n: number, text: string, attempt = 1, fence = 1): Promise<boolean> =>
  (await storePieces(database, [{ ...keyOf(generation), fence, attempt, n, text }])).has(generation.id);
const read = async (): Promise<string | undefined> => {
  const [row] = await database<{ content: string }[]>`
    select content from current_messages where id = ${generation.message_id}`;
  return row?.content;
};

test("pieces are appended; a repeated one replaces itself, a late shorter one doesn't", async () => {
  expect(await read()).toBe("");
  expect(await store(1, "ab")).toBe(true);
  expect(await store(2, "cd")).toBe(true);
  expect(await read()).toBe("abcd");
  expect(await store(2, "cdef")).toBe(true);
  expect(await store(2, "cd")).toBe(false);
  expect(await store(3, "gh")).toBe(true);
  expect(await store(2, "cd")).toBe(false);
  expect(await read()).toBe("abcdefgh");
});

test("an attempt starts with its whole text, and an older one stores nothing more", async () => {
  for (const [n, text] of ["one ", "two ", "three"].entries()) await store(n + 1, text);
  expect(await store(2, "of an attempt that never started", 2)).toBe(false);
  expect(await store(1, "one again ", 2)).toBe(true);
  expect(await read()).toBe("one again ");
  expect(await store(4, "late", 1)).toBe(false);
  expect(await store(1, "late", 1)).toBe(false);
  expect(await store(2, "and on", 2)).toBe(true);
  expect(await store(1, "", 3)).toBe(true);
  expect(await read()).toBe("");
});

test("only the lease's owner can store pieces, and a successor starts with all stored text", async () => {
  await store(1, "all of ");
  await store(2, "it");
  expect(await store(3, "!", 1, 2)).toBe(false);
  await database`update generations set lease_until = now() - interval '1 s' where id = ${generation.id}`;
  const [claimed] = await claimOrphans(database, createId(), 1_000, 10);
  expect(claimed).toMatchObject({ id: generation.id, content: "all of it", fence: 2, attempt: 1 });
  expect(await store(3, "!")).toBe(false);
  expect(await store(3, "!", 1, 2)).toBe(true);
  await database`update generations set status = 'finished', lease_until = null where id = ${generation.id}`;
  expect(await store(4, "?", 1, 2)).toBe(false);
  expect(await storePieces(database, [])).toEqual(new Set());
});

test("reasoning is stored in the same pieces: a successor starts with it, and readers see it", async () => {
  const key = { ...keyOf(generation), fence: 1, attempt: 1 };
  const put = async (n: number, piece: { text: string; reasoning?: string }) =>
    (await storePieces(database, [{ ...key, n, ...piece }])).has(generation.id);
  const readShown = async () => {
    const [row] = await database<{ content: string; reasoning: string | null }[]>`
      select content, reasoning from current_messages where id = ${generation.message_id}`;
    return row;
  };
  expect(await readShown()).toEqual({ content: "", reasoning: null });
  expect(await put(1, { text: "", reasoning: "Let me " })).toBe(true);
  expect(await put(2, { text: "", reasoning: "think." })).toBe(true);
  expect(await put(3, { text: "Done", reasoning: " So." })).toBe(true);
  // A late, shorter one of either kind doesn't replace it.
  expect(await put(3, { text: "Do", reasoning: " So." })).toBe(false);
  expect(await put(3, { text: "Done" })).toBe(false);
  expect(await put(4, { text: "." })).toBe(true);
  expect(await readShown()).toEqual({ content: "Done.", reasoning: "Let me think. So." });
  await database`update generations set lease_until = now() - interval '1 s' where id = ${generation.id}`;
  const [claimed] = await claimOrphans(database, createId(), 1_000, 10);
  expect(claimed).toMatchObject({ content: "Done.", reasoning: "Let me think. So." });
});
