import { expect, test } from "bun:test";
import pino from "pino";
import { lockIndex } from "../../src/modules/documents/queries.ts";
import { createDocumentService } from "../../src/modules/documents/service.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { waitUntil } from "../support/wait-until.ts";
import { createFolder, TEST_SCAN_INTERVAL_MS } from "./start-documents.ts";

test("an instance waits without an error while another instance is indexing, and then indexes its own documents", async () => {
  const testDatabase = await createTestDatabase(4);
  const { path: folder, remove: removeFolder } = createFolder({ "boats.md": "# Boats" });
  const lines: { level: number; msg: string }[] = [];
  const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
  const unlocked = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<void>();
  const blockingTransaction = testDatabase.database.begin(async (sql) => {
    await lockIndex(sql);
    locked.resolve();
    await unlocked.promise;
  });
  await locked.promise;
  const documents = createDocumentService({
    database: testDatabase.database,
    config: { DOCUMENTS_DIR: folder },
    scanIntervalMs: TEST_SCAN_INTERVAL_MS,
    log,
    onScanned: () => {},
  });
  const startPromise = documents.start();
  await waitUntil(() => lines.some(({ msg }) => msg === "another instance is indexing documents; retrying"));
  unlocked.resolve();
  await blockingTransaction;
  await startPromise;
  await waitUntil(async () => {
    const [row] = await testDatabase.database`select 1 from documents where path = 'boats.md'`;
    return row !== undefined;
  });
  expect(lines.filter(({ level }) => level >= 50)).toEqual([]);
  await documents.stop();
  await testDatabase.database.end({ timeout: 1 });
  removeFolder();
});
