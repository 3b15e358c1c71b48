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
/** Every scan is a report; nobody is forgotten within a test. */
const patient = { reportMs: 0, listTtlMs: 60_000 };
const impatient = { reportMs: 0, listTtlMs: KEPT_MS };

type Folder = ReturnType<typeof createFolder>;
const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

function makeFolder(files: Record<string, string>): Folder {
  const folder = createFolder(files);
  undo.push(folder.remove);
  return folder;
}

const countFiles = (prefix: string, count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`${prefix}${index}.md`, `# ${prefix} ${index}`]));

async function share() {
  const shared = await createTestDatabase();
  undo.push(() => shared.database.end());
  const { database } = shared;

  /** The index as one instance keeps it, with the warnings that it logs. `name` is what it takes for its folder's. */
  function addInstance({ folder }: Folder, { name = folder, times = patient } = {}) {
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

describe("instances with other folders", () => {
  test("have the documents of both, and of the one that is left", async () => {
    const { shared } = await share();
    const [many, few] = [makeFolder(countFiles("many", 30)), makeFolder(countFiles("few", 2))];
    const first = await startApp({ database: shared, config: { DOCUMENTS_DIR: many.folder } });
    undo.push(first.stop);
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

  test("say so once, and again when it begins again", async () => {
    const { addInstance } = await share();
    const few = makeFolder(countFiles("few", 2));
    const first = addInstance(makeFolder(countFiles("many", 30)));
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

  test("compare all at the next scan after a report that found others", async () => {
    const { addInstance, list } = await share();
    const times = { reportMs: 300, listTtlMs: 60_000 };
    const first = addInstance(makeFolder(countFiles("many", 3)), { times });
    const second = addInstance(makeFolder(countFiles("few", 2)), { times });
    await first.scan();
    await second.scan();
    await second.leave();
    await Bun.sleep(400);
    expect(await first.report()).toBe(true);
    await first.scan();
    expect(await list()).toHaveLength(3);
    expect(await first.report()).toBe(false);
  });

  test("put back what another one has taken away", async () => {
    const { database, addInstance, list } = await share();
    const first = addInstance(makeFolder(countFiles("many", 30)));
    const second = addInstance(makeFolder(countFiles("few", 2)));
    await first.scan();
    // The second one has not heard of the first for too long, and forgets it.
    await database`delete from document_lists`;
    await second.scan();
    expect(await list()).toEqual(["few0.md", "few1.md"]);
    await first.scan();
    expect(await list()).toHaveLength(32);
  });
});

describe("instances with the same folder", () => {
  test("whose files come at different times have the newest, without a warning", async () => {
    const { addInstance, list, findTitle } = await share();
    const [old, next] = [
      makeFolder({ "a.md": "# Old", "gone.md": "# Gone" }),
      makeFolder({ "a.md": "# New", "b.md": "# B" }),
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

  test("have the files of the old one again when the new one is taken back", async () => {
    const { addInstance, list, findTitle } = await share();
    const [old, next] = [makeFolder({ "a.md": "# Old" }), makeFolder({ "a.md": "# New", "b.md": "# B" })];
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

  test("index a file that they share once, and delete it when it is gone for all", async () => {
    const { addInstance, list } = await share();
    const folder = makeFolder({ "a.md": "# A", "b.md": "# B" });
    const [first, second] = [addInstance(folder), addInstance(folder)];
    await first.scan();
    await second.scan();
    rmSync(join(folder.folder, "b.md"));
    await first.scan();
    await second.scan();
    expect(await list()).toEqual(["a.md"]);
  });
});

describe("an instance that is not heard of", () => {
  test("is forgotten after a while, with its documents", async () => {
    const { addInstance, list } = await share();
    const first = addInstance(makeFolder(countFiles("many", 3)), { times: impatient });
    await addInstance(makeFolder(countFiles("few", 2)), { times: impatient }).scan();
    const deadline = performance.now() + FOUND_WITHIN_MS;
    while (performance.now() < deadline) {
      await first.scan();
      if ((await list()).length === 3) break;
      await Bun.sleep(20);
    }
    expect(await list()).toEqual(["many0.md", "many1.md", "many2.md"]);
  }, 30_000);

  test("is not one that is there and cannot write its index", async () => {
    const { database, addInstance, list } = await share();
    const keptMs = 2_000;
    const times = { reportMs: 0, listTtlMs: keptMs };
    const folder = makeFolder(countFiles("a", 2));
    const failing = addInstance(folder, { times });
    const other = addInstance(makeFolder({ "b.md": "# B" }), { times });
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

  test("is kept by one that was not heard of itself: the database may have been away", async () => {
    const { addInstance, list } = await share();
    const first = addInstance(makeFolder(countFiles("many", 3)), { times: impatient });
    const second = addInstance(makeFolder(countFiles("few", 2)), { times: impatient });
    await first.scan();
    await second.scan();
    await Bun.sleep(2 * KEPT_MS);
    await first.scan();
    expect(await list()).toHaveLength(5);
  });
});

describe("a folder that is empty", () => {
  test("takes nothing away, and is reported once", async () => {
    const { addInstance, list } = await share();
    const files = countFiles("many", 20);
    const folder = makeFolder(files);
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

  test("takes nothing away from other instances either", async () => {
    const { addInstance, list } = await share();
    const first = addInstance(makeFolder(countFiles("many", 20)));
    await first.scan();
    const empty = addInstance(makeFolder({}));
    await empty.scan();
    await first.leave();
    await empty.scan();
    expect(await list()).toHaveLength(20);
  });
});
