import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterTestRun } from "../after-test-run.ts";

const coveredItems = new Set<string>();
let isWriteScheduled = false;

/**
 * Records that a test has covered a part of a document: an operation with a status, a frame, a push or a close code.
 * With `CONTRACT_COVERAGE=<folder>`, each test process writes its list to that folder, for scripts/contract-coverage.ts.
 */
export function recordCoverage(item: string): void {
  if (coveredItems.has(item)) return;
  coveredItems.add(item);
  const folder = process.env.CONTRACT_COVERAGE;
  if (folder === undefined || isWriteScheduled) return;
  isWriteScheduled = true;
  afterTestRun(() => {
    isWriteScheduled = false;
    mkdirSync(folder, { recursive: true });
    appendFileSync(join(folder, `${process.pid}.txt`), [...coveredItems, ""].join("\n"));
  });
}
