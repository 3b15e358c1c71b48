import { expect, test } from "bun:test";
import pino from "pino";
import { createDifferenceReporter, SAME_FOLDER_DELAY_MS } from "../../src/modules/documents/differences.ts";

const createList = (folder: string | null, files: Record<string, string>) => ({
  host: `host of ${folder}`,
  folder,
  fingerprint: JSON.stringify(files),
  hashes: new Map(Object.entries(files)),
});

function startReporter(folder: string | null) {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { lines, ...createDifferenceReporter({ log, origin: { host: "here", folder } }) };
}

test("an instance with a different folder is reported immediately, with the number of differences", () => {
  const { lines, update, report } = startReporter("/a");
  update(createList("/a", { x: "1", y: "1", z: "1" }), [createList(null, { x: "1", y: "2", w: "1" })], 0);
  report(0);
  report(SAME_FOLDER_DELAY_MS);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatchObject({ documents: 3, other_documents: 3, only_here: 1, only_there: 1, different: 1 });
  expect(lines[0]?.msg).toContain("Parley's own guides");
});

test("different files in the same folder are reported only after a delay, even if the files keep changing", () => {
  const { lines, update, report } = startReporter("/a");
  const ownList = createList("/a", { x: "1" });
  for (let step = 0; step < 10; step += 1) {
    update(ownList, [createList("/a", { x: String(step + 2) })], (step / 10) * SAME_FOLDER_DELAY_MS);
    report((step / 10) * SAME_FOLDER_DELAY_MS);
  }
  expect(lines).toEqual([]);
  report(SAME_FOLDER_DELAY_MS);
  report(2 * SAME_FOLDER_DELAY_MS);
  expect(lines).toHaveLength(1);
});

test("matching document lists aren't reported, and each new difference is reported", () => {
  const { lines, update, report } = startReporter("/a");
  const ownList = createList("/a", { x: "1" });
  update(ownList, [createList("/b", { x: "1" })], 0);
  report(SAME_FOLDER_DELAY_MS);
  expect(lines).toEqual([]);
  for (const x of ["2", "1", "3"]) {
    update(ownList, [createList("/b", { x })], 0);
    report(0);
  }
  expect(lines).toHaveLength(2);
});
