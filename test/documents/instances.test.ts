import { afterEach, describe, expect, test } from "bun:test";
import { rmSync, utimesSync } from "node:fs";
import { join } from "node:path";
import pino from "pino";
import { createFolderSource } from "../../src/modules/documents/folder-source.ts";
import { createIndexer } from "../../src/modules/documents/indexer.ts";
import { startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createFolder } from "./start-documents.ts";

const FOUND_WITHIN_MS = 20_000;
const KEPT_MS = 400;
/** Every scan is reported; no instance expires during a test. */
const neverExpiring = { reportMs: 0, listTtlMs: 60_000 };
const expiring = { reportMs: 0, listTtlMs: KEPT_MS };

type Folder = ReturnType<typeof createFolder>;
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanups.splice(0).reverse()) await step();
});

function createTestFolder(files: Record<string, string>): Folder {
  const folder = createFolder(files);
  cleanups.push(folder.remove);
  return folder;
}

const countFiles = (prefix: string, count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}.md`, `# ${prefix} ${index}`]));

async function createShared() {
  const shared = await createTestDatabase();
  cleanups.push(() => shared.database.end());
  const { database } = shared;

  /** Starts an indexer with its own folder, and records its warnings. `name` is the folder's name in its reports. */
  function addInstance({ folder }: Folder, { name = folder, times = neverExpiring } = {}) {
    const warnings: string[] = [];
    const log = pino({ level: "warn" }, { write: (line: string) => void warnings.push(JSON.parse(line).msg) });
    return { ...createIndexer({ database, source: createFolderSource(folder), folder: name, times, log }), warnings };
  }

  const list = async () =>
    (await database<{ path: string }[]>`select path from documents order by path`).map(({ path }) => path);
  const findTitle = async (path: string) =>
    (await database<{ title: string }[]>`select title from documents where path = ${path}`)[0]?.title;
  return { shared, database, addInstance, list, findTitle };
}

describe("instances with different folders", () => {
  test("serve the documents of both, and later of the remaining one", async () => {
    const { shared } = await createShared();
    const [many, few] = [createTestFolder(countFiles("many", 30)), createTestFolder(countFiles("few", 2))];
    const first = await startApp({ database: shared, config: { DOCUMENTS_DIR: many.folder } });
    cleanups.push(first.stop);
    const { access_token: token } = await first.register();
    const count = async (q: string) =>
      ((await (await first.fetch(`/api/v1/documents?q=${q}&limit=100`, { token })).json()) as { data: unknown[] }).data
        .length;
    expect(await count("many")).toBe(30);

    const second = await startApp({ database: shared, config: { DOCUMENTS_DIR: few.folder } });
    expect([await count("many"), await count("few")]).toEqual([30, 2]);
    await second.stop();
    const deadline = performance.now() + FOUND_WITHIN_MS;
    while ((await count("few")) > 0 && performance.now() < deadline) await Bun.sleep(100);
    expect([await count("many"), await count("few")]).toEqual([30, 0]);
  }, 60_000);

  test("warn once, and again when the disagreement starts again", async () => {
    const { addInstance } = await createShared();
    const few = createTestFolder(countFiles("few", 2));
    const first = addInstance(createTestFolder(countFiles("many", 30)));
    await first.scan();
    expect(first.warnings).toEqual([]);
    const second = addInstance(few);
    for (let round = 0; round < 3; round += 1) {
      await second.scan();
      await first.scan();
      few.write("few0.md", `# Changed ${round}`);
    }
    expect(first.warnings).toHaveLength(1);
    expect(second.warnings).toHaveLength(1);
    expect(first.warnings[0]).toContain(few.folder);
    expect(first.warnings[0]).toContain("Give all instances the same DOCUMENTS_DIR");
    await second.leave();
    await first.scan();
    await addInstance(few).scan();
    await first.scan();
    expect(first.warnings).toHaveLength(2);
  });

  test("compare everything at the next scan after a report that found others", async () => {
    const { addInstance, list } = await createShared();
    const times = { reportMs: 300, listTtlMs: 60_000 };
    const first = addInstance(createTestFolder(countFiles("many", 3)), { times });
    const second = addInstance(createTestFolder(countFiles("few", 2)), { times });
    await first.scan();
    await second.scan();
    await second.leave();
    await Bun.sleep(400);
    expect(await first.report()).toBe(true);
    await first.scan();
    expect(await list()).toHaveLength(3);
    expect(await first.report()).toBe(false);
  });

  test("restore what another instance deleted", async () => {
    const { database, addInstance, list } = await createShared();
    const first = addInstance(createTestFolder(countFiles("many", 30)));
    const second = addInstance(createTestFolder(countFiles("few", 2)));
    await first.scan();
    // The first one's report has expired for the second one.
    await database`delete from document_lists`;
    await second.scan();
    expect(await list()).toEqual(["few0.md", "few1.md"]);
    await first.scan();
    expect(await list()).toHaveLength(32);
  });
});

describe("instances with the same folder", () => {
  test("whose files arrive at different times serve the newest, without a warning", async () => {
    const { addInstance, list, findTitle } = await createShared();
    const [old, next] = [
      createTestFolder({ "a.md": "# Old", "gone.md": "# Gone" }),
      createTestFolder({ "a.md": "# New", "b.md": "# B" }),
    ];
    const hourAgo = new Date(Date.now() - 3_600_000);
    utimesSync(join(old.folder, "a.md"), hourAgo, hourAgo);
    const first = addInstance(old, { name: "/documents" });
    const second = addInstance(next, { name: "/documents" });
    await first.scan();
    await second.scan();
    for (let round = 0; round < 3; round += 1) {
      await first.scan();
      await second.scan();
      expect(await findTitle("a.md")).toBe("New");
    }
    expect(await list()).toEqual(["a.md", "b.md", "gone.md"]);
    // The files arrive.
    old.write("a.md", "# New");
    old.write("b.md", "# B");
    rmSync(join(old.folder, "gone.md"));
    await first.scan();
    await second.scan();
    expect(await list()).toEqual(["a.md", "b.md"]);
    expect([...first.warnings, ...second.warnings]).toEqual([]);
  });

  test("serve the old files again after a rollback", async () => {
    const { addInstance, list, findTitle } = await createShared();
    const [old, next] = [createTestFolder({ "a.md": "# Old" }), createTestFolder({ "a.md": "# New", "b.md": "# B" })];
    const hourAgo = new Date(Date.now() - 3_600_000);
    utimesSync(join(old.folder, "a.md"), hourAgo, hourAgo);
    const first = addInstance(old, { name: "/documents" });
    const second = addInstance(next, { name: "/documents" });
    await first.scan();
    await second.scan();
    await first.scan();
    await second.leave();
    await first.scan();
    expect(await list()).toEqual(["a.md"]);
    expect(await findTitle("a.md")).toBe("Old");
  });

  test("index a shared file once, and delete it when all have deleted it", async () => {
    const { addInstance, list } = await createShared();
    const folder = createTestFolder({ "a.md": "# A", "b.md": "# B" });
    const [first, second] = [addInstance(folder), addInstance(folder)];
    await first.scan();
    await second.scan();
    rmSync(join(folder.folder, "b.md"));
    await first.scan();
    await second.scan();
    expect(await list()).toEqual(["a.md"]);
  });
});

describe("an instance without reports", () => {
  test("expires after a while, with its documents", async () => {
    const { addInstance, list } = await createShared();
    const first = addInstance(createTestFolder(countFiles("many", 3)), { times: expiring });
    await addInstance(createTestFolder(countFiles("few", 2)), { times: expiring }).scan();
    const deadline = performance.now() + FOUND_WITHIN_MS;
    while (performance.now() < deadline) {
      await first.scan();
      if ((await list()).length === 3) break;
      await Bun.sleep(20);
    }
    expect(await list()).toEqual(["many0.md", "many1.md", "many2.md"]);
  }, 30_000);

  test("doesn't expire if it is running but can't write its index", async () => {
    const { database, addInstance, list } = await createShared();
    const keptMs = 2_000;
    const times = { reportMs: 0, listTtlMs: keptMs };
    const folder = createTestFolder(countFiles("a", 2));
    const failing = addInstance(folder, { times });
    const other = addInstance(createTestFolder({ "b.md": "# B" }), { times });
    await failing.scan();
    await other.scan();
    await database.unsafe(`
      create function refuse_document() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
      create trigger refuse_document before insert on documents for each row when (new.path = 'bad.md')
        execute function refuse_document()`);
    folder.write("bad.md", "# Bad");
    for (const endsAtMs = performance.now() + 3 * keptMs; performance.now() < endsAtMs; ) {
      expect(await failing.scan().catch(String)).toContain("refused");
      await other.scan();
      await Bun.sleep(20);
    }
    expect(await list()).toEqual(["a0.md", "a1.md", "b.md"]);
  }, 30_000);

  test("isn't removed by an instance that has not reported either: the database may have been unavailable", async () => {
    const { addInstance, list } = await createShared();
    const first = addInstance(createTestFolder(countFiles("many", 3)), { times: expiring });
    const second = addInstance(createTestFolder(countFiles("few", 2)), { times: expiring });
    await first.scan();
    await second.scan();
    await Bun.sleep(2 * KEPT_MS);
    await first.scan();
    expect(await list()).toHaveLength(5);
  });
});

describe("an empty folder", () => {
  test("deletes nothing, and is reported once", async () => {
    const { addInstance, list } = await createShared();
    const files = countFiles("many", 20);
    const folder = createTestFolder(files);
    const only = addInstance(folder);
    await only.scan();
    for (const path of Object.keys(files)) rmSync(join(folder.folder, path));
    await only.scan();
    await only.scan();
    expect(await list()).toHaveLength(20);
    expect(only.warnings).toHaveLength(1);
    expect(only.warnings[0]).toContain("has no documents, so the 20 in the index are kept");
    folder.write("one.md", "# One");
    await only.scan();
    expect(await list()).toEqual(["one.md"]);
  });

  test("deletes nothing of other instances either", async () => {
    const { addInstance, list } = await createShared();
    const first = addInstance(createTestFolder(countFiles("many", 20)));
    await first.scan();
    const empty = addInstance(createTestFolder({}));
    await empty.scan();
    await first.leave();
    await empty.scan();
    expect(await list()).toHaveLength(20);
  });
});
