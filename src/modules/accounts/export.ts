import type { Sql } from "../../db/client.ts";
import type { Preferences, User } from "../users/model.ts";
import { readAnswers, readMessages, readSupplied } from "./export-messages.ts";
import * as queries from "./export-queries.ts";

/**
 * All stored data of a user as one JSON document, streamed: only one batch is in memory, and the next is read when the
 * reader has consumed this one. An error truncates the document, so it can't be mistaken for complete.
 */
export async function* createExport(sql: Sql, user: User, preferences: Preferences): AsyncGenerator<string> {
  const head = JSON.stringify({ exported_at: new Date().toISOString(), user, preferences });
  // The opening brace stays open for the lists that follow.
  yield head.slice(0, -1);
  yield* writeList("sessions", queries.readSessions(sql, user.id));
  yield* writeList("identities", queries.readIdentities(sql, user.id));
  yield* writeList("api_keys", queries.readApiKeys(sql, user.id));
  yield* writeList("webhooks", queries.readWebhooks(sql, user.id));
  yield* writeList("hooks", queries.readHooks(sql, user.id));
  yield* writeList("memberships", queries.readMemberships(sql, user.id));
  yield* writeList("messages", readMessages(sql, user.id));
  yield* writeList("answers", readAnswers(sql, user.id));
  yield* writeList("supplied", readSupplied(sql, user.id));
  yield* writeList("imports", queries.readImports(sql, user.id));
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
    // Send a line break even for an empty batch, so that a long search doesn't look like a dead connection.
    if (rows.length === 0) yield "\n";
    else yield separator + rows.map((row) => JSON.stringify(row)).join(",\n");
    if (rows.length > 0) separator = ",\n";
  }
  yield "]";
}
