import type { Log } from "../../lib/log.ts";
import type { DocumentList, ListOrigin } from "./list-queries.ts";

/** A difference is reported only if it lasts this long, because files may reach one instance later than another. */
export const SAME_FOLDER_DELAY_MS = 5 * 60_000;

type Difference = { sinceMs: number; other: ListOrigin; fields: Record<string, unknown>; isReported: boolean };

const describeOrigin = ({ folder }: ListOrigin): string =>
  folder === null ? "Parley's own guides" : `the folder ${folder}`;

/** Creates a reporter of differences between this instance's documents and those of other instances. Each folder is reported once. */
export function createDifferenceReporter({ log, origin }: { log: Log; origin: ListOrigin }) {
  let differences = new Map<string, Difference>();

  return {
    /** Stores how the other instances' documents differ from this one's. */
    update(own: DocumentList, others: readonly DocumentList[], nowMs: number): void {
      const previous = differences;
      differences = new Map();
      for (const other of others) {
        if (other.fingerprint === own.fingerprint) continue;
        const key = String(other.folder);
        const { sinceMs = nowMs, isReported = false } = previous.get(key) ?? {};
        differences.set(key, { sinceMs, isReported, other, fields: countDifferences(own, other) });
      }
    },

    /** Reports differences that have lasted long enough. */
    report(nowMs: number): void {
      for (const difference of differences.values()) {
        const isSameFolder = difference.other.folder === origin.folder;
        if (difference.isReported || (isSameFolder && nowMs - difference.sinceMs < SAME_FOLDER_DELAY_MS)) continue;
        difference.isReported = true;
        log.warn(
          { host: origin.host, other_host: difference.other.host, ...difference.fields },
          `The instance on ${difference.other.host} has different documents (${describeOrigin(difference.other)}) from this one ` +
            `(${describeOrigin(origin)}), so searches return both. Give all instances the same DOCUMENTS_DIR with the same files.`,
        );
      }
    },
  };
}

function countDifferences({ hashes: own }: DocumentList, { hashes: other }: DocumentList): Record<string, unknown> {
  const shared = [...own].filter(([path]) => other.has(path));
  return {
    documents: own.size,
    other_documents: other.size,
    only_here: own.size - shared.length,
    only_there: other.size - shared.length,
    different: shared.filter(([path, hash]) => other.get(path) !== hash).length,
  };
}
