import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import type { Database } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { getLeaseKey } from "../../src/modules/generations/pieces.ts";
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

const storePiece = async (n: number, text: string, attempt = 1, fence = 1): Promise<boolean> =>
  (await storePieces(database, [{ ...getLeaseKey(generation), fence, attempt, n, text }])).has(generation.id);
const getStoredContent = async (): Promise<string | undefined> => {
  const [row] = await database<{ content: string }[]>`
    select content from current_messages where id = ${generation.message_id}`;
  return row?.content;
};

test("pieces are appended, and a piece is replaced only by a longer version of itself", async () => {
  expect(await getStoredContent()).toBe("");
  expect(await storePiece(1, "ab")).toBe(true);
  expect(await storePiece(2, "cd")).toBe(true);
  expect(await getStoredContent()).toBe("abcd");
  expect(await storePiece(2, "cdef")).toBe(true);
  expect(await storePiece(2, "cd")).toBe(false);
  expect(await storePiece(3, "gh")).toBe(true);
  expect(await storePiece(2, "cd")).toBe(false);
  expect(await getStoredContent()).toBe("abcdefgh");
});

test("a new attempt replaces the stored text, and the older attempt can't store more pieces", async () => {
  for (const [n, text] of ["one ", "two ", "three"].entries()) await storePiece(n + 1, text);
  expect(await storePiece(2, "of an attempt that never started", 2)).toBe(false);
  expect(await storePiece(1, "one again ", 2)).toBe(true);
  expect(await getStoredContent()).toBe("one again ");
  expect(await storePiece(4, "late", 1)).toBe(false);
  expect(await storePiece(1, "late", 1)).toBe(false);
  expect(await storePiece(2, "and on", 2)).toBe(true);
  expect(await storePiece(1, "", 3)).toBe(true);
  expect(await getStoredContent()).toBe("");
});

test("only the lease's owner can store pieces, and the next owner receives all stored text", async () => {
  await storePiece(1, "all of ");
  await storePiece(2, "it");
  expect(await storePiece(3, "!", 1, 2)).toBe(false);
  await database`update generations set lease_until = now() - interval '1 s' where id = ${generation.id}`;
  const [claimed] = await claimOrphans(database, createId(), 1_000, 10);
  expect(claimed).toMatchObject({ id: generation.id, content: "all of it", fence: 2, attempt: 1 });
  expect(await storePiece(3, "!")).toBe(false);
  expect(await storePiece(3, "!", 1, 2)).toBe(true);
  await database`update generations set status = 'finished', lease_until = null where id = ${generation.id}`;
  expect(await storePiece(4, "?", 1, 2)).toBe(false);
  expect(await storePieces(database, [])).toEqual(new Set());
});

test("reasoning is stored in the same pieces as text, and returned to readers and the next owner", async () => {
  const key = { ...getLeaseKey(generation), fence: 1, attempt: 1 };
  const storeWithReasoning = async (n: number, piece: { text: string; reasoning?: string }) =>
    (await storePieces(database, [{ ...key, n, ...piece }])).has(generation.id);
  const getStoredMessage = async () => {
    const [row] = await database<{ content: string; reasoning: string | null }[]>`
      select content, reasoning from current_messages where id = ${generation.message_id}`;
    return row;
  };
  expect(await getStoredMessage()).toEqual({ content: "", reasoning: null });
  expect(await storeWithReasoning(1, { text: "", reasoning: "Let me " })).toBe(true);
  expect(await storeWithReasoning(2, { text: "", reasoning: "think." })).toBe(true);
  expect(await storeWithReasoning(3, { text: "Done", reasoning: " So." })).toBe(true);
  // A version of a piece with shorter text or reasoning doesn't replace the stored version.
  expect(await storeWithReasoning(3, { text: "Do", reasoning: " So." })).toBe(false);
  expect(await storeWithReasoning(3, { text: "Done" })).toBe(false);
  expect(await storeWithReasoning(4, { text: "." })).toBe(true);
  expect(await getStoredMessage()).toEqual({ content: "Done.", reasoning: "Let me think. So." });
  await database`update generations set lease_until = now() - interval '1 s' where id = ${generation.id}`;
  const [claimed] = await claimOrphans(database, createId(), 1_000, 10);
  expect(claimed).toMatchObject({ content: "Done.", reasoning: "Let me think. So." });
});
