import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, type Sql, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { listHistory, listPath, type PathRow } from "../../src/modules/generations/context-queries.ts";
import { readPath } from "../../src/modules/generations/path.ts";
import { createTestDatabase } from "../support/postgres.ts";

let database: Database;
beforeAll(async () => {
  ({ database } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

type Row = {
  seq: number;
  id: string;
  role: "user" | "assistant" | "tool";
  parent_id: string | null;
  content: string;
  status: "complete" | "cancelled" | "failed" | "streaming";
  deleted_at: Date | null;
};

/** Stores a conversation with these messages. @returns the conversation's ID. */
async function storeConversation(rows: Row[]): Promise<string> {
  const id = createId();
  await database`insert into conversations (id, kind, reply_mode, last_seq) values (${id}, 'group', 'never', 0)`;
  for (let from = 0; from < rows.length; from += 2_000)
    await database`
      insert into messages ${database(rows.slice(from, from + 2_000).map((row) => ({ ...row, conversation_id: id })))}`;
  return id;
}

const createRow = (seq: number, row: Partial<Row> = {}): Row => ({
  seq,
  id: createId(),
  role: "user",
  parent_id: null,
  content: `m${seq}`,
  status: "complete",
  deleted_at: null,
  ...row,
});

/** Finds the messages on a path by applying the rule in decision 0011 to one message after another. */
function listExpectedSeqs(rows: Row[], untilSeq: number): number[] {
  const seqById = new Map(rows.map(({ id, seq }) => [id, seq]));
  const seqs: number[] = [];
  let highestSeq = untilSeq;
  for (const row of rows.toReversed()) {
    if (row.seq > highestSeq) continue;
    highestSeq = row.seq - 1;
    if (row.role === "user" && row.parent_id !== null) highestSeq = seqById.get(row.parent_id) ?? highestSeq;
    if (row.role === "tool" || row.deleted_at || row.content === "" || /failed|streaming/.test(row.status)) continue;
    if (row.role === "assistant" && row.parent_id !== null)
      highestSeq =
        (rows.find(({ role, parent_id }) => role === "assistant" && parent_id === row.parent_id)?.seq ?? row.seq) - 1;
    seqs.push(row.seq);
  }
  return seqs;
}

/** Creates a random number generator that returns the same numbers in every run. */
function createRandom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((state / 2_147_483_648) * below);
  };
}

function createRandomTree(count: number, random: (below: number) => number): Row[] {
  const rows: Row[] = [];
  let seq = 0;
  while (rows.length < count) {
    // Some sequence numbers belong to other events.
    seq += random(4) === 0 ? 2 : 1;
    const earlierRow = rows[random(rows.length)];
    const lastRow = rows.at(-1);
    const kind = random(10);
    const hiddenFields =
      [{}, {}, {}, {}, { status: "failed" }, { deleted_at: new Date() }, { content: "" }][random(7)] ?? {};
    const isAnswer = kind < 5 && lastRow?.role === "user";
    if (isAnswer)
      rows.push(createRow(seq, { role: "assistant", parent_id: lastRow.id, ...hiddenFields } as Partial<Row>));
    else if (kind === 5 && earlierRow?.role === "user")
      rows.push(createRow(seq, { role: "assistant", parent_id: earlierRow.id, ...hiddenFields } as Partial<Row>));
    else if (kind === 6) rows.push(createRow(seq, { role: "tool", parent_id: lastRow?.id ?? null }));
    else
      rows.push(
        createRow(seq, { parent_id: kind > 7 ? (earlierRow?.id ?? null) : null, ...hiddenFields } as Partial<Row>),
      );
  }
  return rows;
}

const queryPath = (id: string, untilSeq: number, rowsMax: number, bytesMax: number) =>
  database<PathRow[]>`select * from list_path(${id}, ${untilSeq}, ${rowsMax}, ${bytesMax}, ${null}, ${false})`;

describe("a path", () => {
  test.each([1, 2, 3])(
    "contains the same messages regardless of the portions in which it is read (seed %d)",
    async (seed) => {
      const rows = createRandomTree(250, createRandom(seed));
      const id = await storeConversation(rows);
      for (const { seq } of rows.filter((_, index) => index % 9 === 0 || index > 240))
        for (const [rowsMax, bytes] of [
          [1_000, 1_000_000],
          [7, 1_000_000],
          [1, 1_000_000],
          [1_000, 11],
        ] as const) {
          const seqs: number[] = [];
          for await (const portion of readPath(await queryPath(id, seq, rowsMax, bytes), (untilSeq) =>
            queryPath(id, untilSeq, rowsMax, bytes),
          )) {
            expect(portion.length).toBeLessThanOrEqual(rowsMax);
            seqs.push(...portion.filter(({ content }) => content !== null).map((row) => row.seq));
          }
          expect({ seq, rowsMax, seqs }).toEqual({ seq, rowsMax, seqs: listExpectedSeqs(rows, seq) });
        }
    },
  );

  test("is read down to the newest message with a summary, and can be continued from there", async () => {
    const rows = createRandomTree(120, createRandom(4));
    const id = await storeConversation(rows);
    const allSeqs = (await queryPath(id, 1_000, 1_000, 1_000_000)).map(({ seq }) => seq);
    const summarizedSeq = allSeqs[Math.floor(allSeqs.length / 2)] ?? 0;
    const message = rows.find(({ seq }) => seq === summarizedSeq);
    await database`
      insert into summaries (conversation_id, until_seq, id, message_id, content, model)
      values (${id}, ${summarizedSeq}, ${createId()}, ${message?.id ?? ""}, 'A summary.', 'm')`;
    const newerRows = await queryPath(id, 1_000, 1_000, 1_000_000);
    expect(newerRows.at(-1)).toMatchObject({ seq: summarizedSeq, summary: { content: "A summary." } });
    const olderRows = await queryPath(id, newerRows.at(-1)?.continue_at ?? 0, 1_000, 1_000_000);
    expect([...newerRows, ...olderRows].map(({ seq }) => seq)).toEqual(allSeqs);
  });
});

/** Counts the rows that `work` reads from the `messages` table. */
async function countRowsRead(work: (sql: Sql) => Promise<unknown>): Promise<number> {
  return withTransaction(database, async (sql) => {
    const countReads = async () => {
      const [row] = await sql<{ rows: number }[]>`
        select (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows from pg_stat_xact_user_tables
        where relname = 'messages'`;
      return row?.rows ?? 0;
    };
    const readsBefore = await countReads();
    await work(sql);
    return (await countReads()) - readsBefore;
  });
}

describe("a path in a long conversation", () => {
  const BRANCHES = 20;
  const DEPTH = 475;

  test("is read without the messages in other branches", async () => {
    const rows: Row[] = [];
    const leafIds: (string | null)[] = Array.from({ length: BRANCHES }, () => null);
    for (let pair = 0; pair < BRANCHES * DEPTH; pair += 1) {
      const question = createRow(rows.length + 1, { parent_id: leafIds[pair % BRANCHES] ?? null });
      const answer = createRow(rows.length + 2, { role: "assistant", parent_id: question.id });
      rows.push(question, answer);
      leafIds[pair % BRANCHES] = answer.id;
    }
    const id = await storeConversation(rows);
    let portion: PathRow[] = [];
    const rowsRead = await countRowsRead(async (sql) => {
      portion = await listPath(sql, id, rows.length, 100);
    });
    expect(portion.map(({ seq }) => seq)).toEqual(
      Array.from({ length: DEPTH }, (_, n) => rows.length - n * BRANCHES * 2).flatMap((seq) => [seq, seq - 1]),
    );
    expect(rowsRead).toBeLessThan(5 * 2 * DEPTH);
  }, 30_000);

  test("is read up to a byte limit, but always includes at least one message", async () => {
    const rows = Array.from({ length: 12 }, (_, n) => createRow(n + 1, { content: "x".repeat(200_000) }));
    const id = await storeConversation(rows);
    expect((await listHistory(database, id, 12, false)).map(({ continue_at }) => continue_at)).toEqual([null, 10]);
    const excerpts = await listPath(database, id, 12, 100);
    expect(excerpts).toHaveLength(12);
    expect(excerpts[0]).toMatchObject({ content: `${"x".repeat(50)} […] ${"x".repeat(50)}`, content_bytes: 200_000 });
    expect((await listPath(database, id, 12, 0)).map(({ content }) => content)).toEqual(rows.map(() => null));
  });

  test("is read quickly even if many branches start at the same message", async () => {
    const first = createRow(1);
    const siblings = Array.from({ length: 5_000 }, (_, n) => createRow(n + 2, { parent_id: first.id }));
    const answer = createRow(5_002, { role: "assistant", parent_id: first.id });
    const id = await storeConversation([first, ...siblings, answer]);
    const rowsRead = await countRowsRead((sql) => listPath(sql, id, 5_002, 100));
    expect(rowsRead).toBeLessThan(2_000);
  }, 30_000);
});
