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

/** Messages per statement: how many, and UTF-16 units of their texts (a single message may be longer). */
const BATCH_ROWS = 500;
const BATCH_CHARS = 512 * 1024;
/** Database connections per instance for imports, separate from those for requests. */
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
 * the response to a commit was lost. A retry determines which.
 */
class ImportStateChanged extends Error {}

/** Processes uploaded imports. */
export type ImportJob = {
  /** Runs a queued import, continuing where it stopped. @throws the signal's reason when aborted. */
  run(importId: string, signal: AbortSignal): Promise<void>;
  /** Fails imports that are too old, and deletes their files. Called by the job runner. */
  sweep(signal: AbortSignal): Promise<void>;
  /** Closes the database connections of imports. */
  close(): Promise<void>;
};

export function createImportJob({ database, quotas, bytesMax, onStored }: Dependencies): ImportJob {
  const pool = createSidePool(database, POOL_SIZE);

  async function store(row: queries.ImportRow, position: number, conversation: ImportedConversation): Promise<boolean> {
    const write = () => storeConversation(pool.open(), row.id, position, conversation);
    const storeWithBytes = () => quotas.reserve("stored_bytes", row.user_id, conversation.bytes, write);
    const outcome = await quotas.reserve("conversations", row.user_id, 1, storeWithBytes);
    if (outcome === "no_user") throw new ImportError("forbidden", "The account is disabled.");
    if (outcome === "lost") throw new ImportStateChanged("The import's state has changed.");
    if (outcome !== "stored") return false;
    onStored(conversation.id, row.user_id);
    return true;
  }

  async function storeOrSkip(
    row: queries.ImportRow,
    isFirstImport: boolean,
    position: number,
    read: ReadResult,
  ): Promise<void> {
    let reason: string | undefined;
    if ("skipped" in read) reason = read.skipped;
    // Checked before the quotas, because skipped conversations don't count. The database detects duplicates within the
    // file.
    else if (!isFirstImport && (await queries.hasConversation(database, row, read.conversation.sourceId)))
      reason = ALREADY_IMPORTED;
    else if (!(await store(row, position, read.conversation))) reason = ALREADY_IMPORTED;
    if (reason === undefined) return;
    const note = { title: read.title, reason };
    if (!(await queries.skipConversation(pool.open(), row.id, position, note)))
      throw new ImportStateChanged("The import's state has changed.");
  }

  async function importAll(row: queries.ImportRow, signal: AbortSignal): Promise<void> {
    const [format, other] = row.source === "chatgpt" ? [chatgpt, claude] : [claude, chatgpt];
    const builder = createConversationBuilder(format, other, row.created_at.getTime());
    const isFirstImport = !(await queries.hasImported(database, row));
    let position = 0;
    /** The current conversation is stored while the next one is read. */
    let storing = Promise.resolve();
    try {
      for await (const read of readConversations(readPieces(database, row.id), builder, bytesMax)) {
        signal.throwIfAborted();
        // If the first item is from the other source, the whole file is: fail with one error.
        if (position === 0 && "skipped" in read && read.skipped === describeWrongSource(other))
          throw new ImportError("wrong_source", read.skipped);
        const readPosition = position;
        position += 1;
        // This conversation was handled before the job was interrupted.
        if (readPosition < row.conversations) continue;
        await storing;
        storing = retryTemporary(() => storeOrSkip(row, isFirstImport, readPosition, read), signal);
        // Errors are handled where `storing` is awaited: below, or for the next conversation.
        storing.catch(() => {});
      }
    } finally {
      // If the rest of the file can't be read, the conversations before that are still stored.
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
      const expiry = {
        code: "expired",
        detail: "The import didn't finish within a day. Send the file again.",
      } as const;
      await repeatUntilDone(() => queries.sweepImports(database, expiry), signal);
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

/** The reason for a permanent failure; undefined if the import can be retried. */
function findReason(error: unknown): Pick<ImportError, "code" | "detail"> | undefined {
  if (error instanceof ImportError) return error;
  if (error instanceof Problem && error.code === "quota_exceeded") return { code: error.code, detail: error.message };
  return undefined;
}

/** Stores a conversation with all its messages, or nothing. */
async function storeConversation(
  pool: Database,
  importId: string,
  position: number,
  conversation: ImportedConversation,
): Promise<queries.StoreOutcome> {
  const batches = splitMessages(conversation.messages);
  const storeBatch = (sql: Sql, { messages, after }: Batch) =>
    queries.importMessages(sql, importId, position, conversation, messages, after);
  const [first, ...rest] = batches;
  if (!first) throw new Error("A conversation without messages is not imported.");
  if (rest.length === 0) return storeBatch(pool, first);
  return pool.begin(async (sql) => {
    const outcome = await storeBatch(sql, first);
    if (outcome === "stored") for (const batch of rest) await storeBatch(sql, batch);
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
