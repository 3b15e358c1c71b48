import type { Database, Sql } from "../../db/client.ts";
import { createSidePool } from "../../db/client.ts";
import { retryTemporary } from "../../db/retry.ts";
import { repeatUntilDone } from "../../lib/batches.ts";
import { Problem } from "../../lib/problem.ts";
import type { QuotaService } from "../quotas/service.ts";
import { chatgpt } from "./chatgpt.ts";
import { claude } from "./claude.ts";
import {
  createConversationBuilder,
  describeWrongSource,
  type ImportedConversation,
  type ImportedMessage,
  type Read,
} from "./conversation-builder.ts";
import { readConversations } from "./file-reader.ts";
import { ImportError } from "./import-error.ts";
import { deletePieces, readPieces } from "./pieces.ts";
import * as queries from "./queries.ts";

/** Messages per statement: rows, and UTF-16 units of their texts (a single message may exceed that). */
const BATCH_ROWS = 500;
const BATCH_CHARS = 512 * 1024;
/** Connections per instance for imports, separate from those for requests. */
const POOL_SIZE = 2;

type Dependencies = {
  database: Database;
  quotas: QuotaService;
  /** Maximum unpacked bytes of an archive. */
  bytesMax: number;
  /** Called after each conversation's commit. */
  onStored(conversationId: string, userId: string): void;
};

/**
 * The import's stored state isn't what this attempt expected: another instance has taken over, its user was deleted, or
 * the response to a commit got lost. A retry finds out which.
 */
class ImportStateChanged extends Error {}

/** Processes uploaded imports. */
export type ImportJob = {
  /** The queue's job: resumes an import where it stopped. @throws the signal's reason when aborted. */
  run(importId: string, signal: AbortSignal): Promise<void>;
  /** For the job runner: fails imports that are too old, and deletes their files. */
  sweep(signal: AbortSignal): Promise<void>;
  /** Closes its connections. */
  close(): Promise<void>;
};

export function createImportJob({ database, quotas, bytesMax, onStored }: Dependencies): ImportJob {
  const pool = createSidePool(database, POOL_SIZE);

  async function store(row: queries.ImportRow, position: number, conversation: ImportedConversation): Promise<boolean> {
    const write = () => storeConversation(pool.open(), row.id, position, conversation);
    const takeBytes = () => quotas.take("stored_bytes", row.user_id, conversation.bytes, write);
    const outcome = await quotas.take("conversations", row.user_id, 1, takeBytes);
    if (outcome === "no_user") throw new ImportError("forbidden", "The account is disabled.");
    if (outcome === "lost") throw new ImportStateChanged("The import has moved on.");
    if (outcome !== "stored") return false;
    onStored(conversation.id, row.user_id);
    return true;
  }

  async function handle(row: queries.ImportRow, isFirst: boolean, position: number, read: Read): Promise<void> {
    let reason: string | undefined;
    if ("skipped" in read) reason = read.skipped;
    // Before the quotas, since skipped conversations don't count. The database detects duplicates within the file.
    else if (!isFirst && (await queries.isKnown(database, row, read.conversation.sourceId))) reason = knownReason;
    else if (!(await store(row, position, read.conversation))) reason = knownReason;
    if (reason === undefined) return;
    const note = { title: read.title, reason };
    if (!(await queries.skipConversation(pool.open(), row.id, position, note)))
      throw new ImportStateChanged("The import has moved on.");
  }

  async function importAll(row: queries.ImportRow, signal: AbortSignal): Promise<void> {
    const [format, other] = row.source === "chatgpt" ? [chatgpt, claude] : [claude, chatgpt];
    const builder = createConversationBuilder(format, other, row.created_at.getTime());
    const isFirst = !(await queries.hasImported(database, row));
    let position = 0;
    /** Stores one conversation while the next is read. */
    let storing = Promise.resolve();
    try {
      for await (const read of readConversations(readPieces(database, row.id), builder, bytesMax)) {
        signal.throwIfAborted();
        // The whole file is from the other source: say so once.
        if (position === 0 && "skipped" in read && read.skipped === describeWrongSource(other))
          throw new ImportError("wrong_source", read.skipped);
        const at = position;
        position += 1;
        // Earlier ones were done before the job was interrupted.
        if (at < row.conversations) continue;
        await storing;
        storing = retryTemporary(() => handle(row, isFirst, at, read), signal);
        // It is awaited below, or with the next one.
        storing.catch(() => {});
      }
    } finally {
      // If the file can't be read any further, what was read before is stored anyway.
      await storing;
    }
  }

  const deleteFile = (importId: string, signal: AbortSignal) =>
    repeatUntilDone(() => deletePieces(pool.open(), importId), signal);

  return {
    async run(importId, signal) {
      const row = await queries.startImport(pool.open(), importId);
      if (row) {
        try {
          await importAll(row, signal);
          await queries.finishImport(pool.open(), importId, null);
        } catch (error) {
          const reason = findReason(error);
          if (!reason) throw error;
          await queries.finishImport(pool.open(), importId, reason);
        }
        quotas.invalidate(row.user_id);
      }
      await deleteFile(importId, signal);
    },

    async sweep(signal) {
      const late = {
        code: "expired",
        detail: "The import didn't finish within a day. Send the file again.",
      } as const;
      await repeatUntilDone(() => queries.sweepImports(database, late), signal);
      for (
        let id = await queries.findLeftoverFile(database);
        id && !signal.aborted;
        id = await queries.findLeftoverFile(database)
      )
        await deleteFile(id, signal);
    },

    close: pool.close,
  };
}

const knownReason = "It was already imported.";

/** The reason of a permanent failure; undefined: the import can be retried. */
function findReason(error: unknown): Pick<ImportError, "code" | "detail"> | undefined {
  if (error instanceof ImportError) return error;
  if (error instanceof Problem && error.code === "quota_exceeded") return { code: error.code, detail: error.message };
  return undefined;
}

/** Stores everything, or nothing. */
async function storeConversation(
  pool: Database,
  importId: string,
  position: number,
  conversation: ImportedConversation,
): Promise<queries.StoreOutcome> {
  const batches = splitMessages(conversation.messages);
  const storeBatch = (sql: Sql, { messages, after }: Batch) =>
    queries.importMessages(sql, importId, position, conversation, messages, after);
  const [first, ...others] = batches;
  if (!first) throw new Error("A conversation without messages is not imported.");
  if (others.length === 0) return storeBatch(pool, first);
  return pool.begin(async (sql) => {
    const outcome = await storeBatch(sql, first);
    if (outcome === "stored") for (const batch of others) await storeBatch(sql, batch);
    return outcome;
  });
}

type Batch = { messages: ImportedMessage[]; after: number };

function splitMessages(messages: readonly ImportedMessage[]): Batch[] {
  const batches: Batch[] = [];
  let chars = 0;
  for (const [index, message] of messages.entries()) {
    let batch = batches.at(-1);
    if (!batch || batch.messages.length >= BATCH_ROWS || chars + message.content.length > BATCH_CHARS) {
      batch = { messages: [], after: index };
      batches.push(batch);
      chars = 0;
    }
    batch.messages.push(message);
    chars += message.content.length;
  }
  return batches;
}
