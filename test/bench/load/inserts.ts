// Load process: inserts the same rows as Parley's sends, in batches, using only the database driver.
import postgres from "postgres";
import { serveSteps } from "../support/load.ts";

export type InsertsStep =
  | { step: "open"; databaseUrl: string; conversations: string[]; authorId: string; contentChars: number }
  | { step: "run"; durationMs: number; batchRows: number };

let sql: postgres.Sql;
let setup: Extract<InsertsStep, { step: "open" }>;
const seqs = new Map<string, number>();
let insertCount = 0;

async function loadSequenceNumbers(step: Extract<InsertsStep, { step: "open" }>) {
  setup = step;
  sql = postgres(step.databaseUrl, { max: 1 });
  const rows = await sql<{ id: string; last_seq: string }[]>`
    select id, last_seq from conversations where id = any (${step.conversations}::uuid[])`;
  for (const { id, last_seq } of rows) seqs.set(id, Number(last_seq));
  return {};
}

async function insertRows(durationMs: number, batchRows: number) {
  const content = "x".repeat(setup.contentChars);
  const deadlineMs = performance.now() + durationMs;
  let rows = 0;
  while (performance.now() < deadlineMs) {
    const batch = Array.from({ length: batchRows }, () => {
      insertCount += 1;
      const conversation = setup.conversations[insertCount % setup.conversations.length] ?? "";
      const seq = (seqs.get(conversation) ?? 0) + 1;
      seqs.set(conversation, seq);
      return { id: Bun.randomUUIDv7(), conversation, seq, clientId: `insert-${insertCount}` };
    });
    await sql`
      insert into messages (id, conversation_id, seq, role, author_id, content, client_message_id)
      select x.id, x.conversation, x.seq, 'user', ${setup.authorId}, ${content}, x.client_id
      from unnest(${batch.map(({ id }) => id)}::uuid[], ${batch.map(({ conversation }) => conversation)}::uuid[],
        ${batch.map(({ seq }) => seq)}::bigint[], ${batch.map(({ clientId }) => clientId)}::text[])
        as x (id, conversation, seq, client_id)`;
    rows += batchRows;
  }
  return { rows };
}

serveSteps((step: InsertsStep) =>
  step.step === "open" ? loadSequenceNumbers(step) : insertRows(step.durationMs, step.batchRows),
);
