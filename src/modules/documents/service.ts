import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "../../config.ts";
import { type Database, isLockConflict, requireRow } from "../../db/client.ts";
import { createBadCursorProblem, type PageRequest } from "../../http/pagination.ts";
import type { Log } from "../../lib/log.ts";
import { createEmbeddedSource } from "./embedded-source.ts";
import { createFolderSource } from "./folder-source.ts";
import { createIndexer, type IndexerTimes } from "./indexer.ts";
import { splitDocumentPath } from "./paths.ts";
import { listWords } from "./plain-text.ts";
import * as queries from "./queries.ts";
import { createDocumentSearch, type DocumentMatch } from "./search.ts";
import type { DocumentFile } from "./source.ts";

/** The interval between scans of the files. */
export const SCAN_INTERVAL_MS = 2_000;
/** The maximum time that startup waits for the first scan, so that a small folder is available from the first request. */
const FIRST_SCAN_TIMEOUT_MS = 5_000;
/** The pause after a scan is at least this multiple of the scan's duration, so that large folders are scanned less often. */
const SCAN_PAUSE_FACTOR = 20;
/** The interval at which a long pause is interrupted to report to the other instances. */
const REPORT_CHECK_INTERVAL_MS = 10_000;
/** The maximum time that shutdown waits for a scan. If the scan takes longer, the instance's list isn't removed, but expires later. */
const SHUTDOWN_TIMEOUT_MS = 1_000;
/** Maximum number of distinct words used from a question. */
const QUESTION_WORDS_MAX = 32;
/** Maximum length of a question, in UTF-16 code units. The rest is ignored. */
const QUESTION_CHARS_MAX = 4_000;
/** Maximum number of passages per question. */
const PASSAGES_MAX = 50;

export type PassageMatch = { path: string; title: string; heading: string | null; snippet: string };
export type { DocumentMatch } from "./search.ts";

/** Serves Markdown documents to every user. The files are authoritative. The database contains only an index of them. */
export interface DocumentService {
  /**
   * Starts scanning the files and updating the index, until `stop` is called. Failed scans are retried, and the first failure is
   * logged. Resolves after the first scan, or after a few seconds if the folder is large.
   */
  start(): Promise<void>;

  /** Stops after the current scan. This instance's documents are removed from the index if no other instance has them. */
  stop(): Promise<void>;

  /** Indexes all pending changes immediately. @throws if the folder or the database is unavailable. */
  rescan(): Promise<void>;

  /** Lists all documents by path. `page.after` is [path]. */
  list(page: PageRequest): Promise<queries.DocumentRow[]>;

  /** Finds documents, best match first. `page.after` is [rank, path]. @throws Problem `bad_cursor`. */
  search(query: string, page: PageRequest): Promise<DocumentMatch[]>;

  /** Returns the current file. @throws Problem `not_found`. */
  get(path: string): Promise<DocumentFile>;

  /**
   * Finds the passages that best answer a question in natural language, for models and tools. Each passage is Markdown of at most
   * `PASSAGE_CHARS_MAX` UTF-16 code units. Returns an empty list if no document contains any of the words.
   */
  searchPassages(question: string, limit: number): Promise<PassageMatch[]>;
}

type Dependencies = {
  database: Database;
  config: Pick<Config, "DOCUMENTS_DIR">;
  scanIntervalMs?: number;
  indexerTimes?: IndexerTimes;
  log: Log;
  /** Called after each scan, because the index may have changed. */
  onScanned?: () => void;
};

export function createDocumentService({
  database,
  config,
  scanIntervalMs = SCAN_INTERVAL_MS,
  indexerTimes,
  log,
  onScanned = () => {},
}: Dependencies): DocumentService {
  // If no folder is configured, Parley's own guides are served.
  const documentsDir = config.DOCUMENTS_DIR;
  const source = documentsDir === undefined ? createEmbeddedSource() : createFolderSource(documentsDir);
  const indexer = createIndexer({ database, source, folder: documentsDir ?? null, times: indexerTimes, log });
  const search = createDocumentSearch({ database });
  const stopController = new AbortController();
  let lastScan: Promise<void> = Promise.resolve();

  function rescan(): Promise<void> {
    lastScan = lastScan.then(indexer.scan, indexer.scan).finally(onScanned);
    return lastScan;
  }

  async function scanRepeatedly(onFirstScan: () => void): Promise<void> {
    let isFailing = false;
    while (!stopController.signal.aborted) {
      const startedAtMs = performance.now();
      try {
        await rescan();
        isFailing = false;
      } catch (error) {
        if (!isFailing && !stopController.signal.aborted) {
          if (isLockConflict(error)) log.info("another instance is indexing documents; retrying");
          else log.error({ err: error, documents_dir: documentsDir }, "indexing documents failed");
        }
        isFailing = true;
      }
      onFirstScan();
      await waitForNextScan(Math.max(scanIntervalMs, SCAN_PAUSE_FACTOR * (performance.now() - startedAtMs)));
    }
  }

  /** Waits for the next scan, which starts earlier if another instance has changed the index. */
  async function waitForNextScan(pauseMs: number): Promise<void> {
    const { signal } = stopController;
    for (const deadlineMs = performance.now() + pauseMs; performance.now() < deadlineMs && !signal.aborted; ) {
      const stepMs = Math.min(REPORT_CHECK_INTERVAL_MS, deadlineMs - performance.now());
      await sleep(stepMs, undefined, { signal, ref: false }).catch(() => {});
      if (performance.now() < deadlineMs && !signal.aborted && (await indexer.report().catch(() => false))) return;
    }
  }

  return {
    rescan,

    async start() {
      const firstScan = Promise.withResolvers<void>();
      void scanRepeatedly(firstScan.resolve);
      const firstScanTimeout = new AbortController();
      await Promise.race([
        firstScan.promise,
        sleep(FIRST_SCAN_TIMEOUT_MS, undefined, { signal: firstScanTimeout.signal }),
      ]);
      firstScanTimeout.abort();
    },

    async stop() {
      stopController.abort();
      const removal = lastScan.then(indexer.removeList, indexer.removeList).catch(() => {});
      await Promise.race([removal, sleep(SHUTDOWN_TIMEOUT_MS, undefined, { ref: false })]);
    },

    async list({ limit, after }) {
      return queries.listDocuments(database, after?.[0] ?? null, limit + 1);
    },

    search: (query, { limit, after }) => search(query, { limit, after: after && parseSearchCursor(after) }),

    async get(path) {
      const file = splitDocumentPath(path) && (await source.read(path));
      return requireRow(file ?? undefined, "document");
    },

    async searchPassages(question, limit) {
      const words = listWords(question.slice(0, QUESTION_CHARS_MAX), QUESTION_WORDS_MAX);
      if (words.length === 0) return [];
      // Some people write "back up", others "backup".
      const compounds = words.slice(1).map((word, index) => `${words[index]}${word}`);
      const rowsMax = Math.max(1, Math.min(limit, PASSAGES_MAX));
      const rows = await queries.searchPassages(database, { words, compounds, rowsMax });
      return rows.map(({ path, title, heading, content }) => ({ path, title, heading, snippet: content }));
    },
  };
}

function parseSearchCursor([rank, path]: string[]): queries.DocumentHit {
  const value = Number(rank);
  if (!rank || path === undefined || !(value >= 0 && value <= 1)) throw createBadCursorProblem();
  return { rank: value, path };
}
