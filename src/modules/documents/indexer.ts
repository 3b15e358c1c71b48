import { hostname } from "node:os";
import { type Database, withTransaction } from "../../db/client.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import { createDisagreements } from "./disagreements.ts";
import { createIndexUpdate, type SeenFile } from "./index-update.ts";
import * as lists from "./list-queries.ts";
import type { DocumentSource, SkippedFile } from "./source.ts";

const SKIPPED_LOGGED_MAX = 20;
/** How often an instance reports its documents and checks those of the other instances. */
const REPORT_MS = 4_000;
/** If an instance hasn't been seen for this long, its documents are removed from the index. */
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
 * Keeps the index in sync with the files of all instances (docs/decisions/0066). It remembers what it has seen: while no
 * file changes, a scan only stats each file and runs a short query every REPORT_MS. After a change on any instance, the
 * whole index is compared with the files.
 */
export function createIndexer({ database, source, folder, times, log }: Dependencies) {
  const { reportMs, listTtlMs } = times ?? { reportMs: REPORT_MS, listTtlMs: LIST_TTL_MS };
  const instanceId = createId();
  const origin = { host: hostname(), folder };
  const updateIndex = createIndexUpdate({ source, instanceId, origin });
  const disagreements = createDisagreements({ log, origin });
  let seen = new Map<string, SeenFile>();
  let isIndexed = false;
  let skippedBefore = "[]";
  let isEmptyReported = false;
  /** The index and the instances' lists at the last comparison. */
  let stateBefore = "";
  let reportedAtMs = Number.NEGATIVE_INFINITY;
  /** The result of the last report, until a full scan compares everything. */
  let isOutdated = false;
  /** Since when this instance has reported without a gap. After a gap, other instances may have removed its documents. */
  let presentSinceMs = Number.POSITIVE_INFINITY;

  function reportSkipped(skipped: SkippedFile[]): void {
    const report = JSON.stringify(skipped);
    if (report !== skippedBefore && skipped.length > 0)
      log.warn({ skipped: skipped.slice(0, SKIPPED_LOGGED_MAX), count: skipped.length }, "documents skipped");
    skippedBefore = report;
  }

  /** An empty folder is more likely an unmounted volume than an intended empty set. */
  function reportEmpty(kept: number): void {
    if (kept > 0 && !isEmptyReported)
      log.warn(
        { documents_dir: folder, documents: kept },
        `DOCUMENTS_DIR ${folder} has no documents, so the ${kept} in the index are kept. Mount or fill the folder; one document in it is enough.`,
      );
    isEmptyReported = kept > 0;
  }

  function markReported(): void {
    const nowMs = performance.now();
    if (nowMs - reportedAtMs > listTtlMs / 2) presentSinceMs = nowMs;
    reportedAtMs = nowMs;
  }

  const canDeleteOthers = () => performance.now() - presentSinceMs >= listTtlMs;

  /**
   * Reports that this instance is running, if a report is due; otherwise returns the last report's result.
   * @returns whether the index or another instance's list has changed, or this instance's list was deleted.
   */
  async function report(): Promise<boolean> {
    if (performance.now() - reportedAtMs < reportMs) return isOutdated;
    const state = await lists.renewList(database, instanceId, listTtlMs);
    markReported();
    disagreements.report(reportedAtMs);
    const canDeleteSome = canDeleteOthers() && state.lists.some(({ is_silent }) => is_silent);
    isOutdated = canDeleteSome || formatState(state, instanceId) !== stateBefore;
    return isOutdated;
  }

  /** If the step fails, this instance still reports that it is running, or the others would remove its documents. */
  async function reportIfFailing<T>(step: () => Promise<T>): Promise<T> {
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
      const { entries, skipped } = await reportIfFailing(() => source.list());
      reportSkipped(skipped);
      const isSame =
        entries.length === seen.size && entries.every(({ path, stamp }) => seen.get(path)?.stamp === stamp);
      if (isSame && isIndexed && !(await report())) return;
      isIndexed = false;
      const result = await reportIfFailing(() =>
        withTransaction(database, async (sql) => {
          const update = await updateIndex(sql, entries, seen, canDeleteOthers() ? listTtlMs : null);
          return { ...update, state: await lists.renewList(sql, instanceId, listTtlMs) };
        }),
      );
      markReported();
      stateBefore = formatState(result.state, instanceId);
      seen = result.seen;
      isIndexed = true;
      isOutdated = false;
      const { written, removed, kept } = result;
      if (written + removed > 0) log.info({ documents: entries.length, written, removed }, "documents indexed");
      reportEmpty(entries.length === 0 ? kept : 0);
      disagreements.set(result.own, result.others, reportedAtMs);
      disagreements.report(reportedAtMs);
    },

    /** Removes this instance's list at shutdown, so that the others needn't wait until it expires. */
    async leave(): Promise<void> {
      if (stateBefore === "") return;
      await withTransaction(database, (sql) => lists.deleteList(sql, instanceId));
    },
  };
}

/** Formats what an instance compares: the index, whether its own list is stored, and which other lists exist. */
function formatState({ generation, lists: all }: lists.IndexState, instanceId: string): string {
  const own = all.find(({ instance_id }) => instance_id === instanceId)?.fingerprint;
  const others = all.map(({ fingerprint }) => fingerprint).filter((fingerprint) => fingerprint !== own);
  return JSON.stringify([generation, own, [...new Set(others)].sort()]);
}
