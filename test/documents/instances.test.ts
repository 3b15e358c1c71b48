import { afterEach, describe, expect, test } from "bun:test";
import { rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import pino from "pino";
import { createFolderSource } from "../../src/modules/documents/folder-source.ts";
import { createIndexer } from "../../src/modules/documents/indexer.ts";
import { startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createFolder } from "./start-documents.ts";

const EXPIRY_TIMEOUT_MS = 20_000;
const LIST_TTL_MS = 400;
/** Instances report after every scan, and their reports don't expire during a test. */
const timesWithoutExpiry = { reportMs: 0, listTtlMs: 60_000 };
const timesWithExpiry = { reportMs: 0, listTtlMs: LIST_TTL_MS };

type Folder = ReturnType<typeof createFolder>;
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createTestFolder(files: Record<string, string>): Folder {
  const folder = createFolder(files);
  cleanups.push(folder.remove);
  return folder;
}

const createFiles = (prefix: string, count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}.md`, `# ${prefix} ${index}`]));

async function createSharedIndex() {
  const shared = await createTestDatabase();
  cleanups.push(() => shared.database.end());
  const { database } = shared;

  /** Creates an indexer that records its warnings. `name` is the folder's path in its reports. */
  function addInstance({ path: folder }: Folder, { name = folder, times = timesWithoutExpiry } = {}) {
    const warnings: string[] = [];
    const log = pino({ level: "warn" }, { write: (line: string) => void warnings.push(JSON.parse(line).msg) });
    return { ...createIndexer({ database, source: createFolderSource(folder), folder: name, times, log }), warnings };
  }

  const listPaths = async () =>
    (await database<{ path: string }[]>`select path from documents order by path`).map(({ path }) => path);
  const findTitle = async (path: string) =>
    (await database<{ title: string }[]>`select title from documents where path = ${path}`)[0]?.title;
  return { shared, database, addInstance, listPaths, findTitle };
}

describe("instances with different folders", () => {
  test("serve both folders' documents until one instance stops", async () => {
    const { shared } = await createSharedIndex();
    const [largeFolder, smallFolder] = [
      createTestFolder(createFiles("many", 30)),
      createTestFolder(createFiles("few", 2)),
    ];
    const firstInstance = await startApp({ database: shared, config: { DOCUMENTS_DIR: largeFolder.path } });
    cleanups.push(firstInstance.stop);
    const { access_token: token } = await firstInstance.register();
    const countResults = async (q: string) =>
      (
        (await (await firstInstance.fetch(`/api/v1/documents?q=${q}&limit=100`, { token })).json()) as {
          data: unknown[];
        }
      ).data.length;
    expect(await countResults("many")).toBe(30);

    const secondInstance = await startApp({ database: shared, config: { DOCUMENTS_DIR: smallFolder.path } });
    expect([await countResults("many"), await countResults("few")]).toEqual([30, 2]);
    await secondInstance.stop();
    const deadlineMs = performance.now() + EXPIRY_TIMEOUT_MS;
    while ((await countResults("few")) > 0 && performance.now() < deadlineMs) await Bun.sleep(100);
    expect([await countResults("many"), await countResults("few")]).toEqual([30, 0]);
  }, 60_000);

  test("log one warning per difference", async () => {
    const { addInstance } = await createSharedIndex();
    const smallFolder = createTestFolder(createFiles("few", 2));
    const firstInstance = addInstance(createTestFolder(createFiles("many", 30)));
    await firstInstance.scan();
    expect(firstInstance.warnings).toEqual([]);
    const secondInstance = addInstance(smallFolder);
    for (let round = 0; round < 3; round += 1) {
      await secondInstance.scan();
      await firstInstance.scan();
      smallFolder.write("few0.md", `# Changed ${round}`);
    }
    expect(firstInstance.warnings).toHaveLength(1);
    expect(secondInstance.warnings).toHaveLength(1);
    expect(firstInstance.warnings[0]).toContain(smallFolder.path);
    expect(firstInstance.warnings[0]).toContain("Give all instances the same DOCUMENTS_DIR");
    await secondInstance.removeList();
    await firstInstance.scan();
    await addInstance(smallFolder).scan();
    await firstInstance.scan();
    expect(firstInstance.warnings).toHaveLength(2);
  });

  test("delete a stopped instance's documents in their first scan after their own next report", async () => {
    const { addInstance, listPaths } = await createSharedIndex();
    const times = { reportMs: 300, listTtlMs: 60_000 };
    const firstInstance = addInstance(createTestFolder(createFiles("many", 3)), { times });
    const secondInstance = addInstance(createTestFolder(createFiles("few", 2)), { times });
    await firstInstance.scan();
    await secondInstance.scan();
    await secondInstance.removeList();
    await Bun.sleep(400);
    expect(await firstInstance.report()).toBe(true);
    await firstInstance.scan();
    expect(await listPaths()).toHaveLength(3);
    expect(await firstInstance.report()).toBe(false);
  });

  test("restore documents that another instance deleted", async () => {
    const { database, addInstance, listPaths } = await createSharedIndex();
    const firstInstance = addInstance(createTestFolder(createFiles("many", 30)));
    const secondInstance = addInstance(createTestFolder(createFiles("few", 2)));
    await firstInstance.scan();
    // The second instance doesn't know about the first instance, as if the first instance's report had expired.
    await database`delete from document_lists`;
    await secondInstance.scan();
    expect(await listPaths()).toEqual(["few0.md", "few1.md"]);
    await firstInstance.scan();
    expect(await listPaths()).toHaveLength(32);
  });
});

describe("instances with the same folder", () => {
  test("serve the newest files without a warning while one copy of the folder is outdated", async () => {
    const { addInstance, listPaths, findTitle } = await createSharedIndex();
    const [outdatedFolder, updatedFolder] = [
      createTestFolder({ "a.md": "# Old", "gone.md": "# Gone" }),
      createTestFolder({ "a.md": "# New", "b.md": "# B" }),
    ];
    const hourAgo = new Date(Date.now() - 3_600_000);
    utimesSync(join(outdatedFolder.path, "a.md"), hourAgo, hourAgo);
    const firstInstance = addInstance(outdatedFolder, { name: "/documents" });
    const secondInstance = addInstance(updatedFolder, { name: "/documents" });
    await firstInstance.scan();
    await secondInstance.scan();
    for (let round = 0; round < 3; round += 1) {
      await firstInstance.scan();
      await secondInstance.scan();
      expect(await findTitle("a.md")).toBe("New");
    }
    expect(await listPaths()).toEqual(["a.md", "b.md", "gone.md"]);
    // Updates the outdated folder.
    outdatedFolder.write("a.md", "# New");
    outdatedFolder.write("b.md", "# B");
    rmSync(join(outdatedFolder.path, "gone.md"));
    await firstInstance.scan();
    await secondInstance.scan();
    expect(await listPaths()).toEqual(["a.md", "b.md"]);
    expect([...firstInstance.warnings, ...secondInstance.warnings]).toEqual([]);
  });

  test("serve the old files again after a rollback", async () => {
    const { addInstance, listPaths, findTitle } = await createSharedIndex();
    const [outdatedFolder, updatedFolder] = [
      createTestFolder({ "a.md": "# Old" }),
      createTestFolder({ "a.md": "# New", "b.md": "# B" }),
    ];
    const hourAgo = new Date(Date.now() - 3_600_000);
    utimesSync(join(outdatedFolder.path, "a.md"), hourAgo, hourAgo);
    const firstInstance = addInstance(outdatedFolder, { name: "/documents" });
    const secondInstance = addInstance(updatedFolder, { name: "/documents" });
    await firstInstance.scan();
    await secondInstance.scan();
    await firstInstance.scan();
    await secondInstance.removeList();
    await firstInstance.scan();
    expect(await listPaths()).toEqual(["a.md"]);
    expect(await findTitle("a.md")).toBe("Old");
  });

  test("delete a document after its file is deleted", async () => {
    const { addInstance, listPaths } = await createSharedIndex();
    const folder = createTestFolder({ "a.md": "# A", "b.md": "# B" });
    const [firstInstance, secondInstance] = [addInstance(folder), addInstance(folder)];
    await firstInstance.scan();
    await secondInstance.scan();
    rmSync(join(folder.path, "b.md"));
    await firstInstance.scan();
    await secondInstance.scan();
    expect(await listPaths()).toEqual(["a.md"]);
  });
});

describe("the documents of an instance", () => {
  test("are deleted if it stops reporting", async () => {
    const { addInstance, listPaths } = await createSharedIndex();
    const firstInstance = addInstance(createTestFolder(createFiles("many", 3)), { times: timesWithExpiry });
    await addInstance(createTestFolder(createFiles("few", 2)), { times: timesWithExpiry }).scan();
    const deadlineMs = performance.now() + EXPIRY_TIMEOUT_MS;
    while (performance.now() < deadlineMs) {
      await firstInstance.scan();
      if ((await listPaths()).length === 3) break;
      await Bun.sleep(20);
    }
    expect(await listPaths()).toEqual(["many0.md", "many1.md", "many2.md"]);
  }, 30_000);

  test("are kept if it is running but can't write to the index", async () => {
    const { database, addInstance, listPaths } = await createSharedIndex();
    const listTtlMs = 2_000;
    const times = { reportMs: 0, listTtlMs };
    const folder = createTestFolder(createFiles("a", 2));
    const failingInstance = addInstance(folder, { times });
    const otherInstance = addInstance(createTestFolder({ "b.md": "# B" }), { times });
    await failingInstance.scan();
    await otherInstance.scan();
    await database.unsafe(`
      create function reject_document() returns trigger language plpgsql as $$ begin raise 'rejected'; end $$;
      create trigger reject_document before insert on documents for each row when (new.path = 'bad.md')
        execute function reject_document()`);
    folder.write("bad.md", "# Bad");
    for (const deadlineMs = performance.now() + 3 * listTtlMs; performance.now() < deadlineMs; ) {
      expect(await failingInstance.scan().catch(String)).toContain("rejected");
      await otherInstance.scan();
      await Bun.sleep(20);
    }
    expect(await listPaths()).toEqual(["a0.md", "a1.md", "b.md"]);
  }, 30_000);

  test("are kept if no instance could report, for example because the database was unavailable", async () => {
    const { addInstance, listPaths } = await createSharedIndex();
    const firstInstance = addInstance(createTestFolder(createFiles("many", 3)), { times: timesWithExpiry });
    const secondInstance = addInstance(createTestFolder(createFiles("few", 2)), { times: timesWithExpiry });
    await firstInstance.scan();
    await secondInstance.scan();
    await Bun.sleep(2 * LIST_TTL_MS);
    await firstInstance.scan();
    expect(await listPaths()).toHaveLength(5);
  });
});

describe("an empty folder", () => {
  test("doesn't delete the documents in the index, and causes one warning", async () => {
    const { addInstance, listPaths } = await createSharedIndex();
    const files = createFiles("many", 20);
    const folder = createTestFolder(files);
    const instance = addInstance(folder);
    await instance.scan();
    for (const path of Object.keys(files)) rmSync(join(folder.path, path));
    await instance.scan();
    await instance.scan();
    expect(await listPaths()).toHaveLength(20);
    expect(instance.warnings).toHaveLength(1);
    expect(instance.warnings[0]).toContain("has no documents, so the 20 in the index are kept");
    folder.write("one.md", "# One");
    await instance.scan();
    expect(await listPaths()).toEqual(["one.md"]);
  });

  test("doesn't delete another instance's documents", async () => {
    const { addInstance, listPaths } = await createSharedIndex();
    const firstInstance = addInstance(createTestFolder(createFiles("many", 20)));
    await firstInstance.scan();
    const emptyInstance = addInstance(createTestFolder({}));
    await emptyInstance.scan();
    await firstInstance.removeList();
    await emptyInstance.scan();
    expect(await listPaths()).toHaveLength(20);
  });
});
