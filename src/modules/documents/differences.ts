import type { Log } from "../../lib/log.ts";
import type { DocumentList, ListOrigin } from "./list-queries.ts";

/**
 * If two instances use the same folder, a difference is reported only if it lasts this long, because files may reach one instance later
 * than the other.
 */
export const SAME_FOLDER_DELAY_MS = 5 * 60_000;

type Difference = { sinceMs: number; otherOrigin: ListOrigin; fields: Record<string, unknown>; isReported: boolean };

const describeOrigin = ({ folder }: ListOrigin): string =>
  folder === null ? "Parley's own guides" : `the folder ${folder}`;

/** Creates a reporter of differences between this instance's documents and those of other instances. Each folder is reported once. */
export function createDifferenceReporter({ log, origin }: { log: Log; origin: ListOrigin }) {
  let differences = new Map<string, Difference>();

  return {
    /** Stores how the other instances' documents differ from this one's. */
    update(ownList: DocumentList, otherLists: readonly DocumentList[], nowMs: number): void {
      const previousDifferences = differences;
      differences = new Map();
      for (const otherList of otherLists) {
        if (otherList.fingerprint === ownList.fingerprint) continue;
        const key = String(otherList.folder);
        const { sinceMs = nowMs, isReported = false } = previousDifferences.get(key) ?? {};
        const fields = countDifferences(ownList, otherList);
        differences.set(key, { sinceMs, isReported, otherOrigin: otherList, fields });
      }
    },

    /** Reports differences that have lasted long enough. */
    report(nowMs: number): void {
      for (const difference of differences.values()) {
        const isSameFolder = difference.otherOrigin.folder === origin.folder;
        if (difference.isReported || (isSameFolder && nowMs - difference.sinceMs < SAME_FOLDER_DELAY_MS)) continue;
        difference.isReported = true;
        log.warn(
          { host: origin.host, other_host: difference.otherOrigin.host, ...difference.fields },
          `The instance on ${difference.otherOrigin.host} has different documents (${describeOrigin(difference.otherOrigin)}) from this one ` +
            `(${describeOrigin(origin)}), so searches return both. Give all instances the same DOCUMENTS_DIR with the same files.`,
        );
      }
    },
  };
}

/** Returns the fields of the log line. */
function countDifferences(
  { hashes: ownHashes }: DocumentList,
  { hashes: otherHashes }: DocumentList,
): Record<string, unknown> {
  const shared = [...ownHashes].filter(([path]) => otherHashes.has(path));
  return {
    documents: ownHashes.size,
    other_documents: otherHashes.size,
    only_here: ownHashes.size - shared.length,
    only_there: otherHashes.size - shared.length,
    different: shared.filter(([path, hash]) => otherHashes.get(path) !== hash).length,
  };
}
