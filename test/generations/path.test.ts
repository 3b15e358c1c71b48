import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, type Sql, withTransaction } from "../../src/db/client.ts";
import { createId } from "../../src/lib/id.ts";
import { listHistory, listPath, type PathRow } from "../../src/modules/generations/context-queries.ts";
import { walkPath } from "../../src/modules/generations/path.ts";
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

/** Stores a conversation with these messages. */
async function store(rows: Row[]): Promise<string> {
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

/** The rule of decision 0011, applied message by message. */
function listExpected(rows: Row[], untilSeq: number): number[] {
  const seqOf = new Map(rows.map(({ id, seq }) => [id, seq]));
  const shown: number[] = [];
  let upper = untilSeq;
  for (const row of rows.toReversed()) {
    if (row.seq > upper) continue;
    upper = row.seq - 1;
    if (row.role === "user" && row.parent_id !== null) upper = seqOf.get(row.parent_id) ?? upper;
    if (row.role === "tool" || row.deleted_at || row.content === "" || /failed|streaming/.test(row.status)) continue;
    if (row.role === "assistant" && row.parent_id !== null)
      upper = (rows.find((x) => x.role === "assistant" && x.parent_id === row.parent_id)?.seq ?? row.seq) - 1;
    shown.push(row.seq);
  }
  return shown;
}

/** Generates the same numbers in every run. */
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
    // Other events have sequence numbers as well.
    seq += random(4) === 0 ? 2 : 1;
    const earlier = rows[random(rows.length)];
    const last = rows.at(-1);
    const kind = random(10);
    const hidden = [{}, {}, {}, {}, { status: "failed" }, { deleted_at: new Date() }, { content: "" }][random(7)] ?? {};
    const isAnswer = kind < 5 && last?.role === "user";
    if (isAnswer) rows.push(createRow(seq, { role: "assistant", parent_id: last.id, ...hidden } as Partial<Row>));
    else if (kind === 5 && earlier?.role === "user")
      rows.push(createRow(seq, { role: "assistant", parent_id: earlier.id, ...hidden } as Partial<Row>));
    else if (kind === 6) rows.push(createRow(seq, { role: "tool", parent_id: last?.id ?? null }));
    else rows.push(createRow(seq, { parent_id: kind > 7 ? (earlier?.id ?? null) : null, ...hidden } as Partial<Row>));
  }
  return rows;
}

const read = (id: string, untilSeq: number, rows: number, bytes: number) =>
  database<PathRow[]>`select * from list_path(${id}, ${untilSeq}, ${rows}, ${bytes}, ${null}, ${false})`;

describe("a path", () => {
  test.each([1, 2, 3])("is the same in portions of any size as message by message (%d)", async (seed) => {
    const rows = createRandomTree(250, createRandom(seed));
    const id = await store(rows);
    for (const { seq } of rows.filter((_, index) => index % 9 === 0 || index > 240))
      for (const [rowsMax, bytes] of [
        [1_000, 1_000_000],
        [7, 1_000_000],
        [1, 1_000_000],
        [1_000, 11],
      ] as const) {
        const shown: number[] = [];
        for await (const portion of walkPath(await read(id, seq, rowsMax, bytes), (untilSeq) =>
          read(id, untilSeq, rowsMax, bytes),
        )) {
          expect(portion.length).toBeLessThanOrEqual(rowsMax);
          shown.push(...portion.filter(({ content }) => content !== null).map((row) => row.seq));
        }
        expect({ seq, rowsMax, shown }).toEqual({ seq, rowsMax, shown: listExpected(rows, seq) });
      }
  });

  test("stops at a message with a summary, and continues the same way from there", async () => {
    const rows = createRandomTree(120, createRandom(4));
    const id = await store(rows);
    const all = (await read(id, 1_000, 1_000, 1_000_000)).map(({ seq }) => seq);
    const middle = all[Math.floor(all.length / 2)] ?? 0;
    const message = rows.find(({ seq }) => seq === middle);
    await database`
      insert into summaries (conversation_id, until_seq, id, message_id, content, model)
      values (${id}, ${middle}, ${createId()}, ${message?.id ?? ""}, 'So far.', 'm')`;
    const newer = await read(id, 1_000, 1_000, 1_000_000);
    expect(newer.at(-1)).toMatchObject({ seq: middle, summary: { content: "So far." } });
    const older = await read(id, newer.at(-1)?.continue_at ?? 0, 1_000, 1_000_000);
    expect([...newer, ...older].map(({ seq }) => seq)).toEqual(all);
  });
});

/** Counts the message rows read, by any index. */
async function countRead(work: (sql: Sql) => Promise<unknown>): Promise<number> {
  return withTransaction(database, async (sql) => {
    const count = async () => {
      const [row] = await sql<{ rows: number }[]>`
        select (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows from pg_stat_xact_user_tables
        where relname = 'messages'`;
      return row?.rows ?? 0;
    };
    const before = await count();
    await work(sql);
    return (await count()) - before;
  });
}

describe("a long path", () => {
  const BRANCHES = 20;
  const DEPTH = 475;

  test("of a branch is read without the messages in between", async () => {
    const rows: Row[] = [];
    const ends: (string | null)[] = Array.from({ length: BRANCHES }, () => null);
    for (let pair = 0; pair < BRANCHES * DEPTH; pair += 1) {
      const question = createRow(rows.length + 1, { parent_id: ends[pair % BRANCHES] ?? null });
      const answer = createRow(rows.length + 2, { role: "assistant", parent_id: question.id });
      rows.push(question, answer);
      ends[pair % BRANCHES] = answer.id;
    }
    const id = await store(rows);
    let portion: PathRow[] = [];
    const touched = await countRead(async (sql) => {
      portion = await listPath(sql, id, rows.length, 100);
    });
    expect(portion.map(({ seq }) => seq)).toEqual(
      Array.from({ length: DEPTH }, (_, n) => rows.length - n * BRANCHES * 2).flatMap((seq) => [seq, seq - 1]),
    );
    expect(touched).toBeLessThan(5 * 2 * DEPTH);
  }, 30_000);

  test("is read up to a byte limit, with at least one message", async () => {
    const rows = Array.from({ length: 12 }, (_, n) => createRow(n + 1, { content: "x".repeat(200_000) }));
    const id = await store(rows);
    expect((await listHistory(database, id, 12, false)).map(({ continue_at }) => continue_at)).toEqual([null, 10]);
    const excerpts = await listPath(database, id, 12, 100);
    expect(excerpts).toHaveLength(12);
    expect(excerpts[0]).toMatchObject({ content: `${"x".repeat(50)} […] ${"x".repeat(50)}`, content_bytes: 200_000 });
    expect((await listPath(database, id, 12, 0)).map(({ content }) => content)).toEqual(rows.map(() => null));
  });

  test("doesn't get longer with other branches from the same message", async () => {
    const first = createRow(1);
    const others = Array.from({ length: 5_000 }, (_, n) => createRow(n + 2, { parent_id: first.id }));
    const answer = createRow(5_002, { role: "assistant", parent_id: first.id });
    const id = await store([first, ...others, answer]);
    const touched = await countRead((sql) => listPath(sql, id, 5_002, 100));
    expect(touched).toBeLessThan(2_000);
  }, 30_000);
});
