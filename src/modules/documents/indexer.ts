import { hostname } from "node:os";
import { type Database, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { createDifferenceReporter } from "./differences.ts";
import { createIndexUpdater, type ScannedFile } from "./index-update.ts";
import * as lists from "./list-queries.ts";
import type { DocumentSource, SkippedFile } from "./source.ts";

const SKIPPED_FILES_LOGGED_MAX = 20;
/** The interval at which an instance reports that it is running, and checks the other instances' lists. */
const REPORT_INTERVAL_MS = 4_000;
/** If an instance hasn't reported for this long, its documents are removed from the index. */
const LIST_TTL_MS = 60_000;

export type IndexerTimes = { reportMs: number; listTtlMs: number };

type Dependencies = {
  database: Database;
  source: DocumentSource;
  folder: string | null;
  times?: IndexerTimes | undefined;
  log: Log;
};

/**
 * Creates the indexer, which keeps the index in sync with all instances' files (docs/decisions/0066). While no file changes, a scan
 * only stats each file, and runs a short query every REPORT_INTERVAL_MS. After a change on any instance, the whole index is compared with the
 * files.
 */
export function createIndexer({ database, source, folder, times, log }: Dependencies) {
  const { reportMs, listTtlMs } = times ?? { reportMs: REPORT_INTERVAL_MS, listTtlMs: LIST_TTL_MS };
  const instanceId = createId();
  const origin = { host: hostname(), folder };
  const updateIndex = createIndexUpdater({ source, instanceId, origin });
  const differenceReporter = createDifferenceReporter({ log, origin });
  let scannedFiles = new Map<string, ScannedFile>();
  let isIndexed = false;
  let lastSkippedReport = "[]";
  let isEmptyReported = false;
  /** The state of the index and the instances' lists at the last comparison. */
  let lastState = "";
  let reportedAtMs = Number.NEGATIVE_INFINITY;
  /** The result of the last report, which is reset by a full comparison. */
  let isOutdated = false;
  /** When this instance began to report without gaps. After a gap, other instances may have removed its documents. */
  let reportingSinceMs = Number.POSITIVE_INFINITY;

  function reportSkipped(skipped: SkippedFile[]): void {
    const report = JSON.stringify(skipped);
    if (report !== lastSkippedReport && skipped.length > 0)
      log.warn({ skipped: skipped.slice(0, SKIPPED_FILES_LOGGED_MAX), count: skipped.length }, "documents skipped");
    lastSkippedReport = report;
  }

  /** Warns about an empty folder, which is probably an unmounted volume. */
  function reportEmpty(kept: number): void {
    if (kept > 0 && !isEmptyReported)
      log.warn(
        { documents_dir: folder, documents: kept },
        `DOCUMENTS_DIR ${folder} has no documents, so the ${kept} in the index are kept. Mount the folder, or add at least one document to it.`,
      );
    isEmptyReported = kept > 0;
  }

  function markReported(): void {
    const nowMs = performance.now();
    if (nowMs - reportedAtMs > listTtlMs / 2) reportingSinceMs = nowMs;
    reportedAtMs = nowMs;
  }

  const canDeleteOtherLists = () => performance.now() - reportingSinceMs >= listTtlMs;

  /**
   * Reports that this instance is running. If no report is due, returns the last report's result.
   * @returns whether the index or another instance's list has changed, or this instance's list was deleted.
   */
  async function report(): Promise<boolean> {
    if (performance.now() - reportedAtMs < reportMs) return isOutdated;
    const state = await lists.renewList(database, instanceId, listTtlMs);
    markReported();
    differenceReporter.report(reportedAtMs);
    const hasDeletableList = canDeleteOtherLists() && state.lists.some(({ is_silent }) => is_silent);
    isOutdated = hasDeletableList || formatState(state, instanceId) !== lastState;
    return isOutdated;
  }

  /** Runs a step. If it fails, still reports that this instance is running, so that other instances don't remove its documents. */
  async function reportOnFailure<T>(step: () => Promise<T>): Promise<T> {
    try {
      return await step();
    } catch (error) {
      await report().catch(() => {});
      throw error;
    }
  }

  return {
    report,

    /** Finds changes and indexes them, in one transaction. Don't call it concurrently. */
    async scan(): Promise<void> {
      const { entries, skipped } = await reportOnFailure(() => source.list());
      reportSkipped(skipped);
      const isUnchanged =
        entries.length === scannedFiles.size &&
        entries.every(({ path, stamp }) => scannedFiles.get(path)?.stamp === stamp);
      if (isUnchanged && isIndexed && !(await report())) return;
      isIndexed = false;
      const result = await reportOnFailure(() =>
        withTransaction(database, async (sql) => {
          const update = await updateIndex(sql, entries, scannedFiles, canDeleteOtherLists() ? listTtlMs : null);
          return { ...update, state: await lists.renewList(sql, instanceId, listTtlMs) };
        }),
      );
      markReported();
      lastState = formatState(result.state, instanceId);
      scannedFiles = result.scannedFiles;
      isIndexed = true;
      isOutdated = false;
      const { written, removed, kept } = result;
      if (written + removed > 0) log.info({ documents: entries.length, written, removed }, "documents indexed");
      reportEmpty(entries.length === 0 ? kept : 0);
      differenceReporter.update(result.ownList, result.otherLists, reportedAtMs);
      differenceReporter.report(reportedAtMs);
    },

    /** Removes this instance's list at shutdown, so that other instances don't have to wait until it expires. */
    async removeList(): Promise<void> {
      if (lastState === "") return;
      await withTransaction(database, (sql) => lists.deleteList(sql, instanceId));
    },
  };
}

/** Formats a state for comparisons: the index generation, this instance's stored list, and the other lists. */
function formatState({ generation, lists: allLists }: lists.IndexState, instanceId: string): string {
  const ownFingerprint = allLists.find(({ instance_id }) => instance_id === instanceId)?.fingerprint;
  const otherFingerprints = new Set(allLists.map(({ fingerprint }) => fingerprint));
  if (ownFingerprint !== undefined) otherFingerprints.delete(ownFingerprint);
  return JSON.stringify([generation, ownFingerprint, [...otherFingerprints].sort()]);
}
