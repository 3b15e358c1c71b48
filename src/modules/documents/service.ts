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

/** Pause between two looks at the files, in milliseconds; a change is found within it. */
export const SCAN_INTERVAL_MS = 2_000;
/** A start waits so long for the first scan, so that a small folder is there from the first request on. */
const FIRST_SCAN_WAIT_MS = 5_000;
/** A scan takes at most one part in so many of the time: big folders are looked at less often. */
const SCAN_TIME_SHARE = 20;
/** Longer pauses are interrupted so often, to stay in touch with the other instances. */
const PAUSE_STEP_MS = 10_000;
/** An instance that stops waits so long for a scan. It is forgotten later if that takes longer. */
const LEAVE_WAIT_MS = 1_000;
/** Different words of a question that count. */
const QUESTION_WORDS_MAX = 32;
/** UTF-16 units of a question that are read. */
const QUESTION_CHARS_MAX = 4_000;
/** Passages that a question can have. */
const PASSAGES_MAX = 50;

export type FoundPassage = { path: string; title: string; heading: string | null; snippet: string };
export type { DocumentMatch } from "./search.ts";

/** The markdown documents: every user may read all of them. The files are the truth, the database is their index. */
export interface DocumentService {
  /**
   * Begins to keep the index like the files, until `stop`. An error is logged when it begins; the scan is tried
   * again.
   * @returns when the first scan has ended; a big folder is not waited for, its indexing goes on.
   */
  start(): Promise<void>;

  /** Ends that, after a scan that runs. The documents of this instance leave the index if no other one has them. */
  stop(): Promise<void>;

  /** Indexes what changed until now, at once. @throws when the folder or the database cannot be reached. */
  rescan(): Promise<void>;

  /** For every user: all documents by path. `page.after` is [path]. */
  list(page: PageRequest): Promise<queries.DocumentRow[]>;

  /** For every user: documents that have what was typed, best first. `page.after` is [rank, path]. @throws Problem `bad_cursor`. */
  search(typed: string, page: PageRequest): Promise<DocumentMatch[]>;

  /** For every user: the file as it is now. @throws Problem `not_found`. */
  get(path: string): Promise<DocumentFile>;

  /**
   * For models and tools: the passages that answer a question in natural language best, each with its whole text as
   * markdown (at most `PASSAGE_CHARS_MAX` UTF-16 units). Empty when no word of the question is in any document.
   */
  searchPassages(question: string, limit: number): Promise<FoundPassage[]>;
}

type Dependencies = {
  database: Database;
  config: Pick<Config, "DOCUMENTS_DIR">;
  /** Pause between two looks, in milliseconds. */
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
  /** Without a folder, the documents are Parley's own guides. */
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
          if (isLockConflict(error)) log.info("another instance is indexing documents; trying again");
          else log.error({ err: error, documents_dir: documentsDir }, "documents cannot be indexed");
        }
        isFailing = true;
      }
      onFirstScan();
      await pause(Math.max(scanIntervalMs, SCAN_TIME_SHARE * (performance.now() - startedAt)));
    }
  }

  /** Until the next scan, which comes sooner if other instances make it necessary. */
  async function pause(pauseMs: number): Promise<void> {
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
      const waited = new AbortController();
      await Promise.race([firstScan.promise, sleep(FIRST_SCAN_WAIT_MS, undefined, { signal: waited.signal })]);
      waited.abort();
    },

    async stop() {
      stopping.abort();
      const leaving = lastScan.then(indexer.leave, indexer.leave).catch(() => {});
      await Promise.race([leaving, sleep(LEAVE_WAIT_MS, undefined, { ref: false })]);
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
      // "back up" is also written "backup".
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
