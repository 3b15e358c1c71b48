import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findReason, openServerLog } from "../../src/db/embedded/server-log.ts";

const folder = mkdtempSync(join(tmpdir(), "parley-log-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("a log file that exceeds the size limit is rotated, and the server logs to an empty file", () => {
  const path = join(folder, "postgres.log");
  writeFileSync(path, "x".repeat(4_000_001));
  const log = openServerLog(path);
  expect(statSync(`${path}.1`).size).toBe(4_000_001);
  expect(log.getSizeBytes()).toBe(0);
  const offset = log.getSizeBytes();
  writeSync(log.descriptor, "2026-01-01 00:00:00.000 UTC [1] FATAL:  the disk is full\n");
  expect(log.findReason(offset)).toBe("the disk is full");
  expect(log.findReason(log.getSizeBytes())).toBe("");
  log.close();
  expect(readFileSync(path, "utf8")).toContain("the disk is full");
});

test.each([
  ["2026 UTC [7] LOG:  starting\n2026 UTC [7] FATAL:  no\n2026 UTC [7] HINT:  try\n", "no"],
  ["2026 UTC [7] PANIC:  could not write to file\n", "could not write to file"],
  ["initdb: error: could not access directory\n", "could not access directory"],
  [
    "/x/postgres: error while loading shared libraries: libstdc++.so.6: cannot open\n",
    "/x/postgres: error while loading shared libraries: libstdc++.so.6: cannot open",
  ],
  ["2026 UTC [7] LOG:  database system is ready\n", ""],
])("findReason returns the failure's reason in %j", (text, reason) => {
  expect(findReason(text)).toBe(reason);
});

test("findReason returns the original error, not the errors that it caused", () => {
  const text = [
    '2026-11-29 06:47:23.235 UTC [12912] FATAL:  could not extend file "base/1/2691": No space left on device',
    "2026-11-29 06:47:23.235 UTC [12912] HINT:  Check free disk space.",
    "2026-11-29 06:47:23.235 UTC [12912] PANIC:  cannot abort transaction 1, it was already committed",
    "child process exited with exit code 134",
  ].join("\n");
  expect(findReason(text)).toBe('could not extend file "base/1/2691": No space left on device');
});
