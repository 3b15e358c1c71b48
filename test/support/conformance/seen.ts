import { appendFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { atEndOfRun } from "../end-of-run.ts";

const seen = new Set<string>();
let isWritten = false;

/**
 * Records that the tests have seen a part of a document: an operation with a status, a frame, a push, a close code. With
 * `CONTRACT_SEEN=<folder>` each test process writes its list there, for scripts/contract-coverage.ts.
 */
export function noteSeen(what: string): void {
  if (seen.has(what)) return;
  seen.add(what);
  const folder = process.env.CONTRACT_SEEN;
  if (folder === undefined || isWritten) return;
  isWritten = true;
  atEndOfRun(() => {
    isWritten = false;
    mkdirSync(folder, { recursive: true });
    appendFileSync(join(folder, `${process.pid}.txt`), [...seen, ""].join("\n"));
  });
}
