import type { Sql } from "../../db/client.ts";
import { listPathRows, PATH_ROWS, type PathRow } from "./context-queries.ts";

/**
 * The messages that lead to one, newest first, beginning with it: `newest` are the first PATH_ROWS of it. A conversation goes back
 * from number to number, with two turns: a user's message with a `parent_id` goes back to that message, and another
 * answer to the same message stands in the place of the first. So of several answers one is on the path, and of several
 * branches one.
 */
export async function* walkPath(sql: Sql, conversationId: string, newest: PathRow[]): AsyncGenerator<PathRow> {
  const answered = new Set<string>();
  /** The number from which the path goes on. */
  let upper = Number.MAX_SAFE_INTEGER;
  for (let rows = newest; ; rows = await listPathRows(sql, conversationId, upper)) {
    for (const row of rows) {
      if (row.seq > upper) continue;
      upper = row.seq - 1;
      if (row.role === "user" && row.parent_seq !== null) upper = row.parent_seq;
      if (!row.is_shown) continue;
      if (row.role === "assistant" && row.parent_id !== null) {
        if (answered.has(row.parent_id)) continue;
        answered.add(row.parent_id);
        if (row.first_answer_seq !== null) upper = row.first_answer_seq - 1;
      }
      yield row;
    }
    if (rows.length < PATH_ROWS) return;
  }
}
