import { setTimeout as sleep } from "node:timers/promises";
import type { Config } from "../../config.ts";
import { type Database, isLockConflict, requireRow } from "../../db/client.ts";
import { createBadCursor, type PageRequest } from "../../http/pagination.ts";
import type { Log } from "../../lib/log.ts";
import { createEmbeddedSource } from "./embedded-source.ts";
import { createFolderSource } from "./folder-source.ts";
import { createIndexer, type IndexerTimes } from "./indexer.ts";
import { splitDocumentPath } from "./paths.ts";
import { listWords } from "./plain-text.ts";
import * as queries from "./queries.ts";
import { createSearch, type DocumentMatch } from "./search.ts";
import type { DocumentFile } from "./source.ts";

/** Interval between scans of the files, in milliseconds, within which changes are found. */
export const SCAN_INTERVAL_MS = 2_000;
/** How long startup waits for the first scan, so that a small folder is available from the first request. */
const FIRST_SCAN_WAIT_MS = 5_000;
/** The pause after a scan is at least this many times as long as the scan, so large folders are scanned less often. */
const SCAN_PAUSE_FACTOR = 20;
/** Long pauses are interrupted this often, to report to the other instances. */
const PAUSE_STEP_MS = 10_000;
/** How long shutdown waits for a scan. If that isn't enough, the instance's list expires later. */
const SHUTDOWN_WAIT_MS = 1_000;
/** Maximum distinct words of a question that are used. */
const QUESTION_WORDS_MAX = 32;
/** Maximum length of a question, in UTF-16 units; the rest is ignored. */
const QUESTION_CHARS_MAX = 4_000;
/** Maximum passages per question. */
const PASSAGES_MAX = 50;

export type FoundPassage = { path: string; title: string; heading: string | null; snippet: string };
export type { DocumentMatch } from "./search.ts";

/** The markdown documents, readable by every user. The files are authoritative; the database only indexes them. */
export interface DocumentService {
  /**
   * Keeps the index in sync with the files until `stop`. Errors are logged when they first occur, and the scan is retried.
   * Resolves after the first scan; for a large folder earlier, while indexing continues.
   */
  start(): Promise<void>;

  /** Stops after the current scan. This instance's documents are removed from the index if no other instance has them. */
  stop(): Promise<void>;

  /** Indexes all pending changes immediately. @throws if the folder or the database is unavailable. */
  rescan(): Promise<void>;

  /** Lists all documents by path. For every user. `page.after` is [path]. */
  list(page: PageRequest): Promise<queries.DocumentRow[]>;

  /** Finds documents, best match first. For every user. `page.after` is [rank, path]. @throws Problem `bad_cursor`. */
  search(typed: string, page: PageRequest): Promise<DocumentMatch[]>;

  /** Returns the current file. For every user. @throws Problem `not_found`. */
  get(path: string): Promise<DocumentFile>;

  /**
   * Finds the passages that best answer a question in natural language, for models and tools. Each is complete Markdown of
   * at most `PASSAGE_CHARS_MAX` UTF-16 units. Returns none if no document contains any of the words.
   */
  searchPassages(question: string, limit: number): Promise<FoundPassage[]>;
}

type Dependencies = {
  database: Database;
  config: Pick<Config, "DOCUMENTS_DIR">;
  scanIntervalMs?: number;
  indexerTimes?: IndexerTimes;
  log: Log;
  /** Called after each scan: the index may have changed. */
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
  /** Without a folder, Parley's own guides are served. */
  const documentsDir = config.DOCUMENTS_DIR;
  const source = documentsDir === undefined ? createEmbeddedSource() : createFolderSource(documentsDir);
  const indexer = createIndexer({ database, source, folder: documentsDir ?? null, times: indexerTimes, log });
  const search = createSearch({ database });
  const stopping = new AbortController();
  let lastScan: Promise<void> = Promise.resolve();

  function rescan(): Promise<void> {
    lastScan = lastScan.then(indexer.scan, indexer.scan).finally(onScanned);
    return lastScan;
  }

  async function watch(onFirstScan: () => void): Promise<void> {
    let isFailing = false;
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      try {
        await rescan();
        isFailing = false;
      } catch (error) {
        if (!isFailing && !stopping.signal.aborted) {
          if (isLockConflict(error)) log.info("another instance is indexing documents; retrying");
          else log.error({ err: error, documents_dir: documentsDir }, "indexing documents failed");
        }
        isFailing = true;
      }
      onFirstScan();
      await waitForNextScan(Math.max(scanIntervalMs, SCAN_PAUSE_FACTOR * (performance.now() - startedAt)));
    }
  }

  /** Waits for the next scan, which starts earlier if another instance has changed something. */
  async function waitForNextScan(pauseMs: number): Promise<void> {
    const { signal } = stopping;
    for (const endsAt = performance.now() + pauseMs; performance.now() < endsAt && !signal.aborted; ) {
      const stepMs = Math.min(PAUSE_STEP_MS, endsAt - performance.now());
      await sleep(stepMs, undefined, { signal, ref: false }).catch(() => {});
      if (performance.now() < endsAt && !signal.aborted && (await indexer.report().catch(() => false))) return;
    }
  }

  return {
    rescan,

    async start() {
      const firstScan = Promise.withResolvers<void>();
      void watch(firstScan.resolve);
      const firstScanTimeout = new AbortController();
      await Promise.race([
        firstScan.promise,
        sleep(FIRST_SCAN_WAIT_MS, undefined, { signal: firstScanTimeout.signal }),
      ]);
      firstScanTimeout.abort();
    },

    async stop() {
      stopping.abort();
      const removal = lastScan.then(indexer.leave, indexer.leave).catch(() => {});
      await Promise.race([removal, sleep(SHUTDOWN_WAIT_MS, undefined, { ref: false })]);
    },

    async list({ limit, after }) {
      return queries.listDocuments(database, after?.[0] ?? null, limit + 1);
    },

    search: (typed, { limit, after }) => search(typed, { limit, after: after && readPosition(after) }),

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

function readPosition([rank, path]: string[]): queries.Hit {
  const value = Number(rank);
  if (!rank || path === undefined || !(value >= 0 && value <= 1)) throw createBadCursor();
  return { rank: value, path };
}
