import { hostname } from "node:os";
import { type Database, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { createDisagreements } from "./disagreements.ts";
import { createIndexUpdate, type SeenFile } from "./index-update.ts";
import * as lists from "./list-queries.ts";
import type { DocumentSource, SkippedFile } from "./source.ts";

const SKIPPED_LOGGED_MAX = 20;
/** So often an instance says which documents it has, and sees what the others have. */
const REPORT_MS = 4_000;
/** The documents of an instance that was not heard of for so long are not its any more. */
const LIST_KEPT_MS = 60_000;

export type IndexerTimes = { reportMs: number; listKeptMs: number };

type Dependencies = {
  database: Database;
  source: DocumentSource;
  folder: string | null;
  times?: IndexerTimes | undefined;
  log: Log;
};

/**
 * Keeps the index like the files of all instances (docs/decisions/0066). It remembers what it has seen: while no file
 * changes, a scan costs a look at each of them, and a short query every REPORT_MS. After a change, its own or of what the
 * other instances have, the whole index is compared with the files, whoever wrote it.
 */
export function createIndexer({ database, source, folder, times, log }: Dependencies) {
  const { reportMs, listKeptMs } = times ?? { reportMs: REPORT_MS, listKeptMs: LIST_KEPT_MS };
  const instanceId = createId();
  const place = { host: hostname(), folder };
  const updateIndex = createIndexUpdate({ source, instanceId, place });
  const disagreements = createDisagreements({ log, place });
  let seen = new Map<string, SeenFile>();
  let isIndexed = false;
  let skippedBefore = "[]";
  let isEmptyReported = false;
  /** The index, and what all instances had, when they were last compared with the files. */
  let stateBefore = "";
  let reportedAtMs = Number.NEGATIVE_INFINITY;
  /** What the last report has found, until a scan has compared all. */
  let isOutdated = false;
  /** Since when this instance has been heard of without a break. After one, the others may have had it too. */
  let heardSinceMs = Number.POSITIVE_INFINITY;

  function reportSkipped(skipped: SkippedFile[]): void {
    const report = JSON.stringify(skipped);
    if (report !== skippedBefore && skipped.length > 0)
      log.warn({ skipped: skipped.slice(0, SKIPPED_LOGGED_MAX), count: skipped.length }, "documents left out");
    skippedBefore = report;
  }

  /** An empty folder is rather a volume that is not mounted than a wish to have no documents. */
  function reportEmpty(kept: number): void {
    if (kept > 0 && !isEmptyReported)
      log.warn(
        { documents_dir: folder, documents: kept },
        `DOCUMENTS_DIR ${folder} has no documents, so the ${kept} of the index stay. Mount or fill the folder; one document in it is enough.`,
      );
    isEmptyReported = kept > 0;
  }

  function noteReport(): void {
    const nowMs = performance.now();
    if (nowMs - reportedAtMs > listKeptMs / 2) heardSinceMs = nowMs;
    reportedAtMs = nowMs;
  }

  const canForget = () => performance.now() - heardSinceMs >= listKeptMs;

  /**
   * Says that this instance is there, if that is due; else it gives what the last report has found.
   * @returns whether the index, or what the others have, is no more as it was, or this instance was forgotten.
   */
  async function report(): Promise<boolean> {
    if (performance.now() - reportedAtMs < reportMs) return isOutdated;
    const state = await lists.renewList(database, instanceId, listKeptMs);
    noteReport();
    disagreements.report(reportedAtMs);
    const canForgetSome = canForget() && state.lists.some(({ is_silent }) => is_silent);
    isOutdated = canForgetSome || nameState(state, instanceId) !== stateBefore;
    return isOutdated;
  }

  /** If it fails, this instance still says that it is there: the others would take its documents away. */
  async function reportFailing<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      await report().catch(() => {});
      throw error;
    }
  }

  return {
    report,

    /** Looks for changes and indexes them, in one transaction. Not to be called while it runs. */
    async scan(): Promise<void> {
      const { entries, skipped } = await reportFailing(() => source.list());
      reportSkipped(skipped);
      const isSame =
        entries.length === seen.size && entries.every(({ path, stamp }) => seen.get(path)?.stamp === stamp);
      if (isSame && isIndexed && !(await report())) return;
      isIndexed = false;
      const result = await reportFailing(() =>
        withTransaction(database, async (sql) => {
          const update = await updateIndex(sql, entries, seen, canForget() ? listKeptMs : null);
          return { ...update, state: await lists.renewList(sql, instanceId, listKeptMs) };
        }),
      );
      noteReport();
      stateBefore = nameState(result.state, instanceId);
      seen = result.seen;
      isIndexed = true;
      isOutdated = false;
      const { written, removed, kept } = result;
      if (written + removed > 0) log.info({ documents: entries.length, written, removed }, "documents indexed");
      reportEmpty(entries.length === 0 ? kept : 0);
      disagreements.set(result.own, result.others, reportedAtMs);
      disagreements.report(reportedAtMs);
    },

    /** For the end of this instance: the others need not wait until its documents are forgotten. */
    async leave(): Promise<void> {
      if (stateBefore === "") return;
      await withTransaction(database, (sql) => lists.deleteList(sql, instanceId));
    },
  };
}

/** What an instance needs to know: the index, whether its own list is there, and which others there are. */
function nameState({ generation, lists: all }: lists.IndexState, instanceId: string): string {
  const own = all.find(({ instance_id }) => instance_id === instanceId)?.fingerprint;
  const others = all.map(({ fingerprint }) => fingerprint).filter((fingerprint) => fingerprint !== own);
  return JSON.stringify([generation, own, [...new Set(others)].sort()]);
}
