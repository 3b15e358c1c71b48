import type { Caller } from "../../access/caller.ts";
import type { OpenStreams } from "../../access/open-streams.ts";
import { requireScope } from "../../access/scopes.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { Jobs } from "../../jobs/runner.ts";
import { createId } from "../../lib/id.ts";
import { Problem } from "../../lib/problem.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { QuotaService } from "../quotas/service.ts";
import { createImportJob, type ImportJob } from "./job.ts";
import type { Import, ImportSource } from "./model.ts";
import { compressPiece, insertPiece, PIECE_BYTES } from "./pieces.ts";
import * as queries from "./queries.ts";
import { readUpload } from "./upload.ts";

export { IMPORTS } from "./queries.ts";

/** Maximum number of concurrent uploads per instance. Each needs a few megabytes of memory. */
const UPLOADS_MAX = 32;
const RETRY_AFTER_MS = 5_000;
/** Timeout of an upload, so that slow clients don't occupy all slots. */
const UPLOAD_TIMEOUT_MS = 60 * 60_000;
/** Interval at which a slow upload is marked as in progress. */
const TOUCH_INTERVAL_MS = 30_000;

type Dependencies = {
  database: Database;
  jobs: Pick<Jobs, "nudge">;
  quotas: QuotaService;
  bus: Pick<Bus, "publish">;
  openStreams: Pick<OpenStreams, "add">;
  config: { IMPORT_BYTES_MAX: number };
};

/** Imports users' conversations from other products (docs/import-export.md). */
export interface ImportService extends ImportJob {
  /**
   * Stores the uploaded file and queues a job that imports it. Each user may run one import at a time. If the caller's credential
   * expires or is revoked, an upload is aborted, but a queued job is not.
   * @throws Problem `conflict` (another import hasn't finished), `forbidden`, `overloaded`, `unauthorized` (the credential is no
   * longer valid), and the errors of `readUpload`.
   */
  upload(caller: Caller, source: ImportSource, request: Request): Promise<Import>;

  /** Returns one of the caller's imports. @throws Problem `not_found`. */
  get(caller: Caller, id: string): Promise<Import>;

  /** Lists the caller's imports, newest first. */
  list(caller: Caller, beforeId: string | null, limit: number): Promise<queries.ImportRow[]>;
}

export function createImportService({ database, jobs, quotas, bus, openStreams, config }: Dependencies): ImportService {
  const bytesMax = config.IMPORT_BYTES_MAX;
  let uploadCount = 0;

  async function get(caller: Caller, id: string): Promise<Import> {
    const row = requireRow(await queries.findImport(database, id, caller.user.id), "import");
    return queries.mapRowToImport(row, await queries.listNotes(database, id));
  }

  async function storeFile(id: string, request: Request, signal: AbortSignal): Promise<void> {
    const startedAtMs = performance.now();
    const pieceWriter = createPieceWriter(async (pieceNumber, bytes) => {
      const data = await compressPiece(bytes);
      const store = (sql: Sql) => insertPiece(sql, id, pieceNumber, bytes.byteLength, data);
      if (!(await withTransaction(database, store))) throw createUploadTimeoutError();
    });
    let lastTouchAtMs = startedAtMs;
    for await (const chunk of readUpload(request, bytesMax, signal)) {
      const nowMs = performance.now();
      if (nowMs - startedAtMs > UPLOAD_TIMEOUT_MS) throw createUploadTimeoutError();
      if (await pieceWriter.add(chunk)) lastTouchAtMs = nowMs;
      if (pieceWriter.countBytes() > bytesMax)
        throw new Problem("too_large", `The file is larger than ${bytesMax} bytes (IMPORT_BYTES_MAX).`);
      if (nowMs - lastTouchAtMs < TOUCH_INTERVAL_MS) continue;
      lastTouchAtMs = nowMs;
      await withTransaction(database, (sql) => queries.touchUpload(sql, id));
    }
    await pieceWriter.end();
    if (pieceWriter.countBytes() === 0) throw new Problem("malformed", "The file is empty.");
  }

  async function upload(caller: Caller, source: ImportSource, request: Request): Promise<Import> {
    const id = createId();
    const insert = (sql: Sql) => queries.insertImport(sql, id, caller.user.id, source);
    if (!(await withTransaction(database, insert, `user:${caller.user.id}`)))
      throw new Problem("conflict", "You have an unfinished import. Send this file again when it has finished.");
    const abortController = new AbortController();
    const unregister = openStreams.add({ caller, end: ({ problem }) => abortController.abort(problem) });
    try {
      await storeFile(id, request, abortController.signal);
      abortController.signal.throwIfAborted();
      if (!(await withTransaction(database, (sql) => queries.queueImport(sql, id)))) throw createUploadTimeoutError();
    } catch (error) {
      // If this fails too, a job deletes the upload later.
      await withTransaction(database, (sql) => queries.deleteUpload(sql, id)).catch(() => {});
      throw error;
    } finally {
      unregister();
    }
    jobs.nudge(queries.IMPORTS);
    return get(caller, id);
  }

  return {
    ...createImportJob({
      database,
      quotas,
      bytesMax,
      onStored: (conversation_id, userId) =>
        bus.publish("conversations", () => [{ type: "conversation.listed", conversation_id, user_ids: [userId] }]),
    }),
    get,

    async upload(caller, source, request) {
      requireScope(caller.scopes, "messages:write");
      if (uploadCount >= UPLOADS_MAX)
        throw new Problem("overloaded", "Too many files are being uploaded. Try again later.", {
          retryAfterMs: RETRY_AFTER_MS,
        });
      uploadCount += 1;
      try {
        return await upload(caller, source, request);
      } catch (error) {
        if (request.body && !request.body.locked) await request.body.cancel().catch(() => {});
        throw error;
      } finally {
        uploadCount -= 1;
      }
    },

    list: (caller, beforeId, limit) => queries.listImports(database, caller.user.id, beforeId, limit),
  };
}

const createUploadTimeoutError = () =>
  new Problem("malformed", "The upload took too long and was aborted. Send the file again.");

/** Creates a writer that splits a file into pieces of `PIECE_BYTES` and stores them. */
function createPieceWriter(store: (pieceNumber: number, bytes: Uint8Array) => Promise<void>) {
  let chunks: Uint8Array[] = [];
  let bufferedBytes = 0;
  let bytes = 0;
  let pieceNumber = 0;

  async function flush(): Promise<void> {
    const buffered = Buffer.concat(chunks);
    chunks = [];
    bufferedBytes = 0;
    for (let offset = 0; offset < buffered.byteLength; offset += PIECE_BYTES) {
      pieceNumber += 1;
      await store(pieceNumber, buffered.subarray(offset, offset + PIECE_BYTES));
    }
  }

  return {
    /** Adds a chunk. Returns whether pieces were stored. */
    async add(chunk: Uint8Array): Promise<boolean> {
      chunks.push(chunk);
      bufferedBytes += chunk.byteLength;
      bytes += chunk.byteLength;
      if (bufferedBytes < PIECE_BYTES) return false;
      await flush();
      return true;
    },
    end: flush,
    /** Returns the number of bytes added. */
    countBytes: () => bytes,
  };
}
