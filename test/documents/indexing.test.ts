import { afterEach, describe, expect, test } from "bun:test";
import { mkdirSync, renameSync, rmSync, symlinkSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { createFolderSource } from "../../src/modules/documents/folder-source.ts";
import { HEADINGS_MAX } from "../../src/modules/documents/markdown.ts";
import { PATH_DEPTH_MAX } from "../../src/modules/documents/paths.ts";
import { createDocumentService } from "../../src/modules/documents/service.ts";
import { FILE_BYTES_MAX, FILES_MAX } from "../../src/modules/documents/source.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";
import { createFolder, startDocuments, TEST_SCAN_MS } from "./start-documents.ts";

const FOUND_WITHIN_MS = 4_000;

type Server = Awaited<ReturnType<typeof startDocuments>>;
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of cleanups.splice(0).reverse()) await step();
});

function createTestFolder(files: Record<string, string | Uint8Array> = {}) {
  const folder = createFolder(files);
  cleanups.push(folder.remove);
  return folder;
}

async function start(folder: string, shared?: Parameters<typeof startDocuments>[1]): Promise<Server> {
  const server = await startDocuments(folder, shared);
  cleanups.push(server.stop);
  return server;
}

const find = async (server: Server, q: string) =>
  (await server.list(`?q=${encodeURIComponent(q)}`)).data.map(({ path }) => path);
const listPaths = async (server: Server) => (await server.list("")).data.map(({ path }) => path);
/** The rows' transaction ids, which any write changes. */
const listVersions = async ({ database }: Server) =>
  (await database<{ path: string; xmin: string }[]>`select path, xmin::text from documents order by path`).map(
    ({ path, xmin }) => `${path} ${xmin}`,
  );

describe("a change of the files", () => {
  test("is indexed: new, changed, renamed and deleted files; other rows aren't rewritten", async () => {
    const folder = createTestFolder({ "a.md": "# Apple", "b.md": "# Banana", "sub/c.md": "# Cherry" });
    const server = await start(folder.folder);
    const before = await listVersions(server);

    folder.write("d.md", "# Date");
    folder.write("b.md", "# Blackberry");
    renameSync(join(folder.folder, "sub/c.md"), join(folder.folder, "e.md"));
    await server.documents.rescan();

    expect(await listPaths(server)).toEqual(["a.md", "b.md", "d.md", "e.md"]);
    expect((await find(server, "banana or cherry or date or blackberry")).sort()).toEqual(["b.md", "d.md", "e.md"]);
    const after = await listVersions(server);
    expect(after[0]).toBe(before[0] ?? "none");
    expect(after[1]).not.toBe(before[1] ?? "none");

    rmSync(join(folder.folder, "a.md"));
    await server.documents.rescan();
    expect(await find(server, "apple")).toEqual([]);
    expect(await server.documents.searchPassages("apple", 5)).toEqual([]);
  });

  test("is readable immediately, before it is indexed", async () => {
    const folder = createTestFolder({ "a.md": "# Old" });
    const server = await start(folder.folder);
    folder.write("a.md", "# New");
    expect(await (await server.get("/a.md")).text()).toBe("# New");
    folder.write("b.md", "# Newer");
    expect((await server.get("/b.md")).status).toBe(200);
    rmSync(join(folder.folder, "a.md"));
    expect((await server.get("/a.md")).status).toBe(404);
  });

  test("with the same length and time is found", async () => {
    const folder = createTestFolder({ "a.md": "# Apple", "next.txt": "# Grape" });
    const then = new Date("2026-01-01T00:00:00Z");
    for (const name of ["a.md", "next.txt"]) utimesSync(join(folder.folder, name), then, then);
    const server = await start(folder.folder);
    renameSync(join(folder.folder, "next.txt"), join(folder.folder, "a.md"));
    await server.documents.rescan();
    expect(await find(server, "grape")).toEqual(["a.md"]);
  });

  test("of only the time is shown, without indexing again", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await start(folder.folder);
    const then = new Date("2026-01-01T00:00:00Z");
    utimesSync(join(folder.folder, "a.md"), then, then);
    await server.documents.rescan();
    expect((await server.list("")).data[0]?.updated_at).toBe("2026-01-01T00:00:00.000Z");
  });

  test("causes no query if there is none", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await start(folder.folder);
    await server.database.end();
    await server.documents.rescan();
    folder.write("a.md", "# Pear");
    expect(server.documents.rescan()).rejects.toThrow();
  });

  test("is found within the interval, until the indexer is stopped", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await start(folder.folder);
    await server.documents.start();
    folder.write("b.md", "# Banana");
    const deadline = performance.now() + FOUND_WITHIN_MS;
    while ((await listPaths(server)).length < 2 && performance.now() < deadline) await Bun.sleep(50);
    expect(await listPaths(server)).toEqual(["a.md", "b.md"]);
    await server.documents.stop();
    folder.write("c.md", "# Cherry");
    await Bun.sleep(10 * TEST_SCAN_MS);
    expect(await listPaths(server)).toEqual(["a.md", "b.md"]);
  }, 30_000);
});

describe("several instances with one database", () => {
  test("that start together index everything once", async () => {
    const shared = await createTestDatabase(8);
    cleanups.push(() => shared.database.end());
    const files = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`f${index}.md`, `# Fruit ${index}`]));
    const folders = [createTestFolder(files), createTestFolder(files), createTestFolder(files)];
    const servers = await Promise.all(folders.map(({ folder }) => start(folder, shared)));
    for (const server of servers) expect((await listPaths(server)).length).toBe(50);
    const [passages] = await shared.database`select count(*)::int as count from document_passages`;
    expect(passages?.count).toBe(0);
    const before = await listVersions(servers[0] as Server);
    for (const server of servers) await server.documents.rescan();
    expect(await listVersions(servers[0] as Server)).toEqual(before);
  });

  test("see what one of them indexed", async () => {
    const shared = await createTestDatabase(8);
    cleanups.push(() => shared.database.end());
    const folder = createTestFolder({ "a.md": "# Apple" });
    const [first, second] = [await start(folder.folder, shared), await start(folder.folder, shared)];
    folder.write("b.md", "# Banana");
    await first.documents.rescan();
    expect(await find(second, "banana")).toEqual(["b.md"]);
    await second.documents.rescan();
    expect(await listPaths(first)).toEqual(["a.md", "b.md"]);
  });

  test("find changes in a repeated search, on all pages", async () => {
    const shared = await createTestDatabase(8);
    cleanups.push(() => shared.database.end());
    const folder = createTestFolder({ "a.md": "# Apple", "b.md": "# Apple pie", "c.md": "Some text, and an apple." });
    const [first, second] = [await start(folder.folder, shared), await start(folder.folder, shared)];
    const page = await second.list("?q=apple&limit=2");
    expect(page.data.map(({ path, snippet }) => [path, snippet])).toEqual([
      ["a.md", ""],
      ["b.md", ""],
    ]);
    const next = `?q=apple&limit=2&cursor=${page.next_cursor}`;
    expect((await second.list(next)).data.map(({ path }) => path)).toEqual(["c.md"]);
    folder.write("c.md", "An apple a day.");
    folder.write("d.md", "Another text, and another apple, and no other fruit.");
    await first.documents.rescan();
    const changed = (await second.list(next)).data;
    expect(changed.map(({ path }) => path)).toEqual(["c.md", "d.md"]);
    expect(changed[0]?.snippet).toBe("An <mark>apple</mark> a day");
  });

  test("restarted with another folder show that folder", async () => {
    const shared = await createTestDatabase(8);
    cleanups.push(() => shared.database.end());
    const before = await start(createTestFolder({ "a.md": "# Apple", "b.md": "# Banana" }).folder, shared);
    await before.documents.stop();
    const server = await start(createTestFolder({ "b.md": "# Blueberry" }).folder, shared);
    expect(await listPaths(server)).toEqual(["b.md"]);
    expect(await find(server, "blueberry")).toEqual(["b.md"]);
    expect(await find(server, "apple or banana")).toEqual([]);
  });
});

describe("failures", () => {
  test("of the folder leave the index unchanged, and are repaired when the folder is back", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await start(folder.folder);
    renameSync(folder.folder, `${folder.folder}.away`);
    expect(server.documents.rescan()).rejects.toThrow();
    expect(await listPaths(server)).toEqual(["a.md"]);
    expect((await server.get("/a.md")).status).toBe(404);
    renameSync(`${folder.folder}.away`, folder.folder);
    folder.write("b.md", "# Banana");
    await server.documents.rescan();
    expect(await listPaths(server)).toEqual(["a.md", "b.md"]);
  });

  test("of the database at the start are retried", async () => {
    const { database } = await createTestDatabase(2);
    cleanups.push(() => database.end());
    await database`alter table documents rename to documents_away`;
    const folder = createTestFolder({ "a.md": "# Apple" });
    const documents = createDocumentService({
      database,
      config: { DOCUMENTS_DIR: folder.folder },
      scanIntervalMs: TEST_SCAN_MS,
      log: silentLog,
    });
    cleanups.push(() => documents.stop());
    await documents.start();
    await database`alter table documents_away rename to documents`;
    const count = async () => (await documents.list({ limit: 10, after: null })).length;
    const deadline = performance.now() + FOUND_WITHIN_MS;
    while ((await count()) === 0 && performance.now() < deadline) await Bun.sleep(50);
    expect(await count()).toBe(1);
  }, 30_000);
});

describe("limits", () => {
  test("a file that is too large or too deep is skipped, and its neighbors are not", async () => {
    const folders = (count: number) => Array.from({ length: count }, () => "d").join("/");
    const folder = createTestFolder({
      "a.md": "# Apple",
      "large.md": "x".repeat(FILE_BYTES_MAX + 1),
      [`${folders(PATH_DEPTH_MAX - 1)}/in.md`]: "# In",
      [`${folders(PATH_DEPTH_MAX)}/out.md`]: "# Out",
      [`${"n".repeat(250)}/${"n".repeat(240)}.md`]: "# Long name",
    });
    const server = await start(folder.folder);
    expect(await listPaths(server)).toEqual(["a.md", `${folders(PATH_DEPTH_MAX - 1)}/in.md`]);
    expect((await server.get(`/${folders(PATH_DEPTH_MAX)}/out.md`)).status).toBe(404);
    const { skipped } = await createFolderSource(folder.folder).list();
    expect(skipped.map(({ reason }) => reason).sort()).toEqual([
      "deeper than 8 names",
      "its path is too long",
      "larger than 1048576 bytes",
    ]);
  });

  test("with too many files, the first ones are served", async () => {
    const folder = createTestFolder();
    for (let index = 0; index <= FILES_MAX; index++) folder.write(`${String(index).padStart(6, "0")}.md`, "");
    const { entries, skipped } = await createFolderSource(folder.folder).list();
    expect(entries.length).toBe(FILES_MAX);
    expect(skipped).toEqual([{ path: `0${FILES_MAX}.md`, reason: `more than ${FILES_MAX} documents` }]);
  }, 60_000);

  test("links to folders aren't followed, which avoids cycles", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    mkdirSync(join(folder.folder, "sub"));
    symlinkSync("..", join(folder.folder, "sub/up"));
    const server = await start(folder.folder);
    expect(await listPaths(server)).toEqual(["a.md"]);
    expect((await server.get("/sub/up/a.md")).status).toBe(404);
  });

  test("a document with only headings, or a million different words, is indexed in time", async () => {
    const words = Array.from({ length: 90_000 }, (_, index) => `w${(index * 7919).toString(36)}q`).join(" ");
    const folder = createTestFolder({
      "headings.md": "# heading\n".repeat(100_000),
      "words.md": `# Words\n\nfirstword ${words} lastword`,
      "stars.md": `# Stars\n\n${"_a_".repeat(300_000)}`,
      "quotes.md": `${">".repeat(1_000_000)} quoted`,
      "comments.md": "<!-- ".repeat(200_000),
      "slashes.md": "/".repeat(1_000_000),
      "dots.md": "a.".repeat(500_000),
      "signs.md": "&a<".repeat(300_000),
      "mails.md": "a@".repeat(500_000),
      "numbers.md": "1.1e".repeat(250_000),
      "chinese.md": "数据库备份".repeat(60_000),
      "brackets.md": "[".repeat(1_000_000),
      "fences.md": "```\n".repeat(250_000),
      "dashes.md": `${"-".repeat(500_000)}x\n${"#".repeat(500_000)}`,
      "spaces.md": `# ${" ".repeat(1_000_000)}#`,
      "empty.md": "",
    });
    const startedAt = performance.now();
    const server = await start(folder.folder);
    expect(performance.now() - startedAt).toBeLessThan(30_000);
    expect((await server.list("")).data.length).toBe(16);
    const headings = (await server.list("")).data.find(({ path }) => path === "headings.md")?.headings;
    expect(headings?.length).toBe(HEADINGS_MAX);
    expect(headings?.at(-1)?.slug).toBe(`heading-${HEADINGS_MAX - 1}`);
    // Its words exceed one document's index entry; the passages still contain them.
    expect(await find(server, "firstword")).toEqual(["words.md"]);
    expect(await find(server, "lastword")).toEqual([]);
    expect((await server.documents.searchPassages("lastword", 1))[0]?.path).toBe("words.md");
    expect(await find(server, "quoted")).toEqual(["quotes.md"]);
  }, 60_000);
});
