import { expect, test } from "bun:test";
import pino from "pino";
import { createDisagreements, SAME_FOLDER_WAIT_MS } from "../../src/modules/documents/disagreements.ts";

const createList = (folder: string | null, files: Record<string, string>) => ({
  host: `host of ${folder}`,
  folder,
  fingerprint: JSON.stringify(files),
  hashes: new Map(Object.entries(files)),
});

function start(folder: string | null) {
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  return { lines, ...createDisagreements({ log, origin: { host: "here", folder } }) };
}

test("reports another folder immediately, with the differences", () => {
  const { lines, set, report } = start("/a");
  set(createList("/a", { x: "1", y: "1", z: "1" }), [createList(null, { x: "1", y: "2", w: "1" })], 0);
  report(0);
  report(SAME_FOLDER_WAIT_MS);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toMatchObject({ documents: 3, other_documents: 3, only_here: 1, only_there: 1, different: 1 });
  expect(lines[0]?.msg).toContain("Parley's own guides");
});

test("reports the same folder with other files once that has lasted, however often they change", () => {
  const { lines, set, report } = start("/a");
  const own = createList("/a", { x: "1" });
  for (let part = 0; part < 10; part += 1) {
    set(own, [createList("/a", { x: String(part + 2) })], (part / 10) * SAME_FOLDER_WAIT_MS);
    report((part / 10) * SAME_FOLDER_WAIT_MS);
  }
  expect(lines).toEqual([]);
  report(SAME_FOLDER_WAIT_MS);
  report(2 * SAME_FOLDER_WAIT_MS);
  expect(lines).toHaveLength(1);
});

test("doesn't report lists that match, but reports a new disagreement", () => {
  const { lines, set, report } = start("/a");
  const own = createList("/a", { x: "1" });
  set(own, [createList("/b", { x: "1" })], 0);
  report(SAME_FOLDER_WAIT_MS);
  expect(lines).toEqual([]);
  for (const x of ["2", "1", "3"]) {
    set(own, [createList("/b", { x })], 0);
    report(0);
  }
  expect(lines).toHaveLength(2);
});
