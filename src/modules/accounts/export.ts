import type { Sql } from "../../db/client.ts";
import type { Preferences, User } from "../users/model.ts";
import { readAnswers, readMessages } from "./export-messages.ts";
import * as queries from "./export-queries.ts";

/**
 * All that is stored of a user as one JSON document, in pieces: however much it is, only one batch is in memory, and
 * the next one is read when the reader has taken this one. A fault breaks the document off, so it cannot pass for whole.
 */
export async function* createExport(sql: Sql, user: User, preferences: Preferences): AsyncGenerator<string> {
  const head = JSON.stringify({ exported_at: new Date().toISOString(), user, preferences });
  // The head stays open for the lists that follow.
  yield head.slice(0, -1);
  yield* writeList("sessions", queries.readSessions(sql, user.id));
  yield* writeList("identities", queries.readIdentities(sql, user.id));
  yield* writeList("api_keys", queries.readApiKeys(sql, user.id));
  yield* writeList("memberships", queries.readMemberships(sql, user.id));
  yield* writeList("messages", readMessages(sql, user.id));
  yield* writeList("answers", readAnswers(sql, user.id));
  yield* writeList("feedback", queries.readFeedback(sql, user.id));
  yield* writeList("prompts", queries.readPrompts(sql, user.id));
  yield* writeList("prompt_versions", queries.readPromptVersions(sql, user.id));
  yield* writeList("usage", queries.readUsage(sql, user.id));
  yield* writeList("audit_events", queries.readAuditEvents(sql, user.id));
  yield "}\n";
}

async function* writeList(name: string, batches: AsyncGenerator<queries.ExportedRow[]>): AsyncGenerator<string> {
  yield `,\n${JSON.stringify(name)}:[`;
  let separator = "\n";
  for await (const rows of batches) {
    // A line break also where nothing was found, so that a long search is not taken for a dead connection.
    if (rows.length === 0) yield "\n";
    else yield separator + rows.map((row) => JSON.stringify(row)).join(",\n");
    if (rows.length > 0) separator = ",\n";
  }
  yield "]";
}

/**
 * A body that pulls the pieces as the reader takes them, and stops reading when the reader goes away.
 * @param onFault called when a piece cannot be made; the status is sent by then, so the connection is broken off.
 */
export function streamText(
  pieces: AsyncGenerator<string>,
  onFault: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let isLeft = false;
  return new ReadableStream({
    async pull(controller) {
      try {
        const { value, done } = await pieces.next();
        // The reader went away while the piece was made.
        if (isLeft) return;
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      } catch (error) {
        if (isLeft) return;
        onFault(error);
        // Without the error, which Bun would print as it is.
        controller.error();
      }
    },
    async cancel() {
      isLeft = true;
      await pieces.return(undefined);
    },
  });
}
