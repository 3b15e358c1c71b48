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
  type ReadResult,
} from "./conversation-builder.ts";
import { readConversations } from "./file-reader.ts";
import { ImportError } from "./import-error.ts";
import { deletePieces, readPieces } from "./pieces.ts";
import * as queries from "./queries.ts";

/** Maximum number of messages per statement. */
const BATCH_MESSAGES_MAX = 500;
/** Maximum UTF-16 code units of the messages in a statement, unless it contains only one message. */
const BATCH_CHARS_MAX = 512 * 1024;
/** Database connections per instance for imports. They are separate from the connections for requests. */
const POOL_SIZE = 2;

type Dependencies = {
  database: Database;
  quotas: QuotaService;
  /** Maximum unpacked size of an archive. */
  bytesMax: number;
  /** Called after each conversation is committed. */
  onStored(conversationId: string, userId: string): void;
};

/**
 * The import's stored state has changed unexpectedly: another instance has taken over, the user was deleted, or the response to
 * a commit was lost. The retry determines the cause.
 */
class ImportStateChanged extends Error {}

/** Processes uploaded imports. */
export type ImportJob = {
  /** Runs a queued import, or continues an interrupted one. @throws the abort reason of `signal`. */
  run(importId: string, signal: AbortSignal): Promise<void>;
  /** Fails imports that are too old, and deletes files that are no longer needed. */
  sweep(signal: AbortSignal): Promise<void>;
  /** Closes the database connections of imports. */
  close(): Promise<void>;
};

export function createImportJob({ database, quotas, bytesMax, onStored }: Dependencies): ImportJob {
  const pool = createSidePool(database, POOL_SIZE);

  async function storeWithinQuotas(
    importRow: queries.ImportRow,
    position: number,
    conversation: ImportedConversation,
  ): Promise<boolean> {
    const store = () => storeConversation(pool.open(), importRow.id, position, conversation);
    const storeWithinBytes = () => quotas.reserve("stored_bytes", importRow.user_id, conversation.bytes, store);
    const outcome = await quotas.reserve("conversations", importRow.user_id, 1, storeWithinBytes);
    if (outcome === "no_user") throw new ImportError("forbidden", "The account is disabled.");
    if (outcome === "lost") throw new ImportStateChanged("The import's state has changed.");
    if (outcome !== "stored") return false;
    onStored(conversation.id, importRow.user_id);
    return true;
  }

  async function storeOrSkip(
    importRow: queries.ImportRow,
    isFirstImport: boolean,
    position: number,
    result: ReadResult,
  ): Promise<void> {
    let reason: string | undefined;
    if ("skipReason" in result) reason = result.skipReason;
    // Duplicates are looked up before the quotas are checked, because skipped conversations don't count. A first import can have
    // duplicates only within its file, which the database detects.
    else if (!isFirstImport && (await queries.hasConversation(database, importRow, result.conversation.sourceId)))
      reason = ALREADY_IMPORTED;
    else if (!(await storeWithinQuotas(importRow, position, result.conversation))) reason = ALREADY_IMPORTED;
    if (reason === undefined) return;
    const note = { title: result.title, reason };
    if (!(await queries.skipConversation(pool.open(), importRow.id, position, note)))
      throw new ImportStateChanged("The import's state has changed.");
  }

  async function importFile(importRow: queries.ImportRow, signal: AbortSignal): Promise<void> {
    const [format, otherFormat] = importRow.source === "chatgpt" ? [chatgpt, claude] : [claude, chatgpt];
    const builder = createConversationBuilder(format, otherFormat, importRow.created_at.getTime());
    const isFirstImport = !(await queries.hasImported(database, importRow));
    let position = 0;
    /** Resolves when the previous conversation is stored, which happens while the next one is read. */
    let previousStored = Promise.resolve();
    try {
      for await (const result of readConversations(readPieces(database, importRow.id), builder, bytesMax)) {
        signal.throwIfAborted();
        // If the first conversation is from the other source, so is the whole file. The import then fails with a single error.
        if (position === 0 && "skipReason" in result && result.skipReason === describeWrongSource(otherFormat))
          throw new ImportError("wrong_source", result.skipReason);
        const currentPosition = position;
        position += 1;
        // This conversation was stored or skipped before an interruption.
        if (currentPosition < importRow.conversations) continue;
        await previousStored;
        previousStored = retryTemporary(() => storeOrSkip(importRow, isFirstImport, currentPosition, result), signal);
        // Errors are thrown where `previousStored` is awaited: before the next conversation is stored, or in `finally`.
        previousStored.catch(() => {});
      }
    } finally {
      // If the rest of the file can't be read, the last conversation before the error is still stored.
      await previousStored;
    }
  }

  const deleteFile = (importId: string, signal: AbortSignal) =>
    repeatUntilDone(() => deletePieces(pool.open(), importId), signal);

  return {
    async run(importId, signal) {
      const importRow = await queries.startImport(pool.open(), importId);
      if (importRow) {
        try {
          await importFile(importRow, signal);
          await queries.finishImport(pool.open(), importId, null);
        } catch (error) {
          const reason = findFailureReason(error);
          if (!reason) throw error;
          await queries.finishImport(pool.open(), importId, reason);
        }
        quotas.invalidate(importRow.user_id);
      }
      await deleteFile(importId, signal);
    },

    async sweep(signal) {
      const expiryError = {
        code: "expired",
        detail: "The import didn't finish within a day. Send the file again.",
      } as const;
      await repeatUntilDone(() => queries.sweepImports(database, expiryError), signal);
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

const ALREADY_IMPORTED = "It was already imported.";

/** Returns the reason for a permanent failure; undefined if the import can be retried. */
function findFailureReason(error: unknown): Pick<ImportError, "code" | "detail"> | undefined {
  if (error instanceof ImportError) return error;
  if (error instanceof Problem && error.code === "quota_exceeded") return { code: error.code, detail: error.message };
  return undefined;
}

/** Stores a conversation with all its messages, atomically. */
async function storeConversation(
  pool: Database,
  importId: string,
  position: number,
  conversation: ImportedConversation,
): Promise<queries.StoreOutcome> {
  const batches = splitMessages(conversation.messages);
  const storeBatch = (sql: Sql, { messages, startIndex }: Batch) =>
    queries.importMessages(sql, importId, position, conversation, messages, startIndex);
  const [firstBatch, ...otherBatches] = batches;
  if (!firstBatch) throw new Error("A conversation without messages can't be imported.");
  if (otherBatches.length === 0) return storeBatch(pool, firstBatch);
  return pool.begin(async (sql) => {
    const outcome = await storeBatch(sql, firstBatch);
    if (outcome === "stored") for (const batch of otherBatches) await storeBatch(sql, batch);
    return outcome;
  });
}

type Batch = { messages: ImportedMessage[]; startIndex: number };

function splitMessages(messages: readonly ImportedMessage[]): Batch[] {
  const batches: Batch[] = [];
  let chars = 0;
  for (const [index, message] of messages.entries()) {
    let batch = batches.at(-1);
    if (!batch || batch.messages.length >= BATCH_MESSAGES_MAX || chars + message.content.length > BATCH_CHARS_MAX) {
      batch = { messages: [], startIndex: index };
      batches.push(batch);
      chars = 0;
    }
    batch.messages.push(message);
    chars += message.content.length;
  }
  return batches;
}
