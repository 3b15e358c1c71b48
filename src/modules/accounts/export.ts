import type { Sql } from "../../db/client.ts";
import type { Preferences, User } from "../users/model.ts";
import { readAnswers, readImportedMessages, readMessages } from "./export-messages.ts";
import * as queries from "./export-queries.ts";

/**
 * Streams all of a user's stored data as one JSON document. Only one batch is in memory, and the next batch is read when the client has
 * received the current one. An error truncates the document, so it can't be mistaken for complete.
 */
export async function* streamExport(sql: Sql, user: User, preferences: Preferences): AsyncGenerator<string> {
  const head = JSON.stringify({ exported_at: new Date().toISOString(), user, preferences });
  // Omits the closing brace, because the lists follow.
  yield head.slice(0, -1);
  yield* formatList("sessions", queries.readSessions(sql, user.id));
  yield* formatList("identities", queries.readIdentities(sql, user.id));
  yield* formatList("api_keys", queries.readApiKeys(sql, user.id));
  yield* formatList("webhooks", queries.readWebhooks(sql, user.id));
  yield* formatList("hooks", queries.readHooks(sql, user.id));
  yield* formatList("memberships", queries.readMemberships(sql, user.id));
  yield* formatList("messages", readMessages(sql, user.id));
  yield* formatList("answers", readAnswers(sql, user.id));
  yield* formatList("supplied", readImportedMessages(sql, user.id));
  yield* formatList("imports", queries.readImports(sql, user.id));
  yield* formatList("feedback", queries.readFeedback(sql, user.id));
  yield* formatList("prompts", queries.readPrompts(sql, user.id));
  yield* formatList("prompt_versions", queries.readPromptVersions(sql, user.id));
  yield* formatList("usage", queries.readUsage(sql, user.id));
  yield* formatList("audit_events", queries.readAuditEvents(sql, user.id));
  yield "}\n";
}

async function* formatList(name: string, batches: AsyncGenerator<queries.ExportedRow[]>): AsyncGenerator<string> {
  yield `,\n${JSON.stringify(name)}:[`;
  let separator = "\n";
  for await (const rows of batches) {
    // Sends a line break even for an empty batch, so that the connection doesn't look dead during a long search.
    if (rows.length === 0) yield "\n";
    else yield separator + rows.map((row) => JSON.stringify(row)).join(",\n");
    if (rows.length > 0) separator = ",\n";
  }
  yield "]";
}
