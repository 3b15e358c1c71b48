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
import { createFolder, startDocuments, TEST_SCAN_INTERVAL_MS } from "./start-documents.ts";

const INDEX_TIMEOUT_MS = 4_000;

type Server = Awaited<ReturnType<typeof startDocuments>>;
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function createTestFolder(files: Record<string, string | Uint8Array> = {}) {
  const folder = createFolder(files);
  cleanups.push(folder.remove);
  return folder;
}

async function startServer(folder: string, shared?: Parameters<typeof startDocuments>[1]): Promise<Server> {
  const server = await startDocuments(folder, shared);
  cleanups.push(server.stop);
  return server;
}

const searchPaths = async (server: Server, q: string) =>
  (await server.list(`?q=${encodeURIComponent(q)}`)).data.map(({ path }) => path);
const listPaths = async (server: Server) => (await server.list("")).data.map(({ path }) => path);
/** Lists the paths of all rows with their transaction IDs, which every write changes. */
const listRowVersions = async ({ database }: Server) =>
  (await database<{ path: string; xmin: string }[]>`select path, xmin::text from documents order by path`).map(
    ({ path, xmin }) => `${path} ${xmin}`,
  );

describe("a file change", () => {
  test("is indexed without rewriting the rows of unchanged files", async () => {
    const folder = createTestFolder({ "a.md": "# Apple", "b.md": "# Banana", "sub/c.md": "# Cherry" });
    const server = await startServer(folder.path);
    const versionsBefore = await listRowVersions(server);

    folder.write("d.md", "# Date");
    folder.write("b.md", "# Blackberry");
    renameSync(join(folder.path, "sub/c.md"), join(folder.path, "e.md"));
    await server.documents.rescan();

    expect(await listPaths(server)).toEqual(["a.md", "b.md", "d.md", "e.md"]);
    expect((await searchPaths(server, "banana or cherry or date or blackberry")).sort()).toEqual([
      "b.md",
      "d.md",
      "e.md",
    ]);
    const versionsAfter = await listRowVersions(server);
    expect(versionsAfter[0]).toBe(versionsBefore[0] ?? "none");
    expect(versionsAfter[1]).not.toBe(versionsBefore[1] ?? "none");

    rmSync(join(folder.path, "a.md"));
    await server.documents.rescan();
    expect(await searchPaths(server, "apple")).toEqual([]);
    expect(await server.documents.searchPassages("apple", 5)).toEqual([]);
  });

  test("appears in the returned document immediately, before it is indexed", async () => {
    const folder = createTestFolder({ "a.md": "# Old" });
    const server = await startServer(folder.path);
    folder.write("a.md", "# New");
    expect(await (await server.get("/a.md")).text()).toBe("# New");
    folder.write("b.md", "# Newer");
    expect((await server.get("/b.md")).status).toBe(200);
    rmSync(join(folder.path, "a.md"));
    expect((await server.get("/a.md")).status).toBe(404);
  });

  test("is indexed even if the file's size and modification time stay the same", async () => {
    const folder = createTestFolder({ "a.md": "# Apple", "next.txt": "# Grape" });
    const fixedTime = new Date("2026-01-01T00:00:00Z");
    for (const name of ["a.md", "next.txt"]) utimesSync(join(folder.path, name), fixedTime, fixedTime);
    const server = await startServer(folder.path);
    renameSync(join(folder.path, "next.txt"), join(folder.path, "a.md"));
    await server.documents.rescan();
    expect(await searchPaths(server, "grape")).toEqual(["a.md"]);
  });

  test("that affects only the modification time updates the time in the document list", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await startServer(folder.path);
    const fixedTime = new Date("2026-01-01T00:00:00Z");
    utimesSync(join(folder.path, "a.md"), fixedTime, fixedTime);
    await server.documents.rescan();
    expect((await server.list("")).data[0]?.updated_at).toBe("2026-01-01T00:00:00.000Z");
  });

  test("is the only reason for a scan to query the database", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await startServer(folder.path);
    await server.database.end();
    await server.documents.rescan();
    folder.write("a.md", "# Pear");
    expect(server.documents.rescan()).rejects.toThrow();
  });

  test("is found by the next scan unless the indexer has been stopped", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await startServer(folder.path);
    await server.documents.start();
    folder.write("b.md", "# Banana");
    const deadlineMs = performance.now() + INDEX_TIMEOUT_MS;
    while ((await listPaths(server)).length < 2 && performance.now() < deadlineMs) await Bun.sleep(50);
    expect(await listPaths(server)).toEqual(["a.md", "b.md"]);
    await server.documents.stop();
    folder.write("c.md", "# Cherry");
    await Bun.sleep(10 * TEST_SCAN_INTERVAL_MS);
    expect(await listPaths(server)).toEqual(["a.md", "b.md"]);
  }, 30_000);
});

describe("several instances with one database", () => {
  test("index each file once, even if they start at the same time", async () => {
    const sharedDatabase = await createTestDatabase(8);
    cleanups.push(() => sharedDatabase.database.end());
    const files = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`f${index}.md`, `# Fruit ${index}`]));
    const folders = [createTestFolder(files), createTestFolder(files), createTestFolder(files)];
    const servers = await Promise.all(folders.map(({ path: folder }) => startServer(folder, sharedDatabase)));
    for (const server of servers) expect((await listPaths(server)).length).toBe(50);
    const [passages] = await sharedDatabase.database`select count(*)::int as count from document_passages`;
    expect(passages?.count).toBe(0);
    const versionsBefore = await listRowVersions(servers[0] as Server);
    for (const server of servers) await server.documents.rescan();
    expect(await listRowVersions(servers[0] as Server)).toEqual(versionsBefore);
  });

  test("find a document that another instance indexed", async () => {
    const sharedDatabase = await createTestDatabase(8);
    cleanups.push(() => sharedDatabase.database.end());
    const folder = createTestFolder({ "a.md": "# Apple" });
    const [firstServer, secondServer] = [
      await startServer(folder.path, sharedDatabase),
      await startServer(folder.path, sharedDatabase),
    ];
    folder.write("b.md", "# Banana");
    await firstServer.documents.rescan();
    expect(await searchPaths(secondServer, "banana")).toEqual(["b.md"]);
    await secondServer.documents.rescan();
    expect(await listPaths(firstServer)).toEqual(["a.md", "b.md"]);
  });

  test("find changed documents on every page of a repeated search", async () => {
    const sharedDatabase = await createTestDatabase(8);
    cleanups.push(() => sharedDatabase.database.end());
    const folder = createTestFolder({ "a.md": "# Apple", "b.md": "# Apple pie", "c.md": "Some text, and an apple." });
    const [firstServer, secondServer] = [
      await startServer(folder.path, sharedDatabase),
      await startServer(folder.path, sharedDatabase),
    ];
    const page = await secondServer.list("?q=apple&limit=2");
    expect(page.data.map(({ path, snippet }) => [path, snippet])).toEqual([
      ["a.md", ""],
      ["b.md", ""],
    ]);
    const nextPageQuery = `?q=apple&limit=2&cursor=${page.next_cursor}`;
    expect((await secondServer.list(nextPageQuery)).data.map(({ path }) => path)).toEqual(["c.md"]);
    folder.write("c.md", "An apple a day.");
    folder.write("d.md", "Another text, and another apple, and no other fruit.");
    await firstServer.documents.rescan();
    const changedResults = (await secondServer.list(nextPageQuery)).data;
    expect(changedResults.map(({ path }) => path)).toEqual(["c.md", "d.md"]);
    expect(changedResults[0]?.snippet).toBe("An <mark>apple</mark> a day");
  });

  test("serve only the new folder after a restart with a different folder", async () => {
    const sharedDatabase = await createTestDatabase(8);
    cleanups.push(() => sharedDatabase.database.end());
    const previousServer = await startServer(
      createTestFolder({ "a.md": "# Apple", "b.md": "# Banana" }).path,
      sharedDatabase,
    );
    await previousServer.documents.stop();
    const server = await startServer(createTestFolder({ "b.md": "# Blueberry" }).path, sharedDatabase);
    expect(await listPaths(server)).toEqual(["b.md"]);
    expect(await searchPaths(server, "blueberry")).toEqual(["b.md"]);
    expect(await searchPaths(server, "apple or banana")).toEqual([]);
  });
});

describe("the indexer", () => {
  test("leaves the index unchanged while the folder is unavailable", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    const server = await startServer(folder.path);
    renameSync(folder.path, `${folder.path}.moved`);
    expect(server.documents.rescan()).rejects.toThrow();
    expect(await listPaths(server)).toEqual(["a.md"]);
    expect((await server.get("/a.md")).status).toBe(404);
    renameSync(`${folder.path}.moved`, folder.path);
    folder.write("b.md", "# Banana");
    await server.documents.rescan();
    expect(await listPaths(server)).toEqual(["a.md", "b.md"]);
  });

  test("retries if the database fails at startup", async () => {
    const { database } = await createTestDatabase(2);
    cleanups.push(() => database.end());
    await database`alter table documents rename to documents_renamed`;
    const folder = createTestFolder({ "a.md": "# Apple" });
    const documents = createDocumentService({
      database,
      config: { DOCUMENTS_DIR: folder.path },
      scanIntervalMs: TEST_SCAN_INTERVAL_MS,
      log: silentLog,
    });
    cleanups.push(() => documents.stop());
    await documents.start();
    await database`alter table documents_renamed rename to documents`;
    const countDocuments = async () => (await documents.list({ limit: 10, after: null })).length;
    const deadlineMs = performance.now() + INDEX_TIMEOUT_MS;
    while ((await countDocuments()) === 0 && performance.now() < deadlineMs) await Bun.sleep(50);
    expect(await countDocuments()).toBe(1);
  }, 30_000);
});

describe("limits", () => {
  test("files that are too large or too deeply nested are skipped", async () => {
    const createNestedPath = (depth: number) => Array.from({ length: depth }, () => "d").join("/");
    const folder = createTestFolder({
      "a.md": "# Apple",
      "large.md": "x".repeat(FILE_BYTES_MAX + 1),
      [`${createNestedPath(PATH_DEPTH_MAX - 1)}/in.md`]: "# In",
      [`${createNestedPath(PATH_DEPTH_MAX)}/out.md`]: "# Out",
      [`${"n".repeat(250)}/${"n".repeat(240)}.md`]: "# Long name",
    });
    const server = await startServer(folder.path);
    expect(await listPaths(server)).toEqual(["a.md", `${createNestedPath(PATH_DEPTH_MAX - 1)}/in.md`]);
    expect((await server.get(`/${createNestedPath(PATH_DEPTH_MAX)}/out.md`)).status).toBe(404);
    const { skipped } = await createFolderSource(folder.path).list();
    expect(skipped.map(({ reason }) => reason).sort()).toEqual([
      "deeper than 8 names",
      "its path is too long",
      "larger than 1048576 bytes",
    ]);
  });

  test("if there are too many files, only the first files are listed", async () => {
    const folder = createTestFolder();
    for (let index = 0; index <= FILES_MAX; index++) folder.write(`${String(index).padStart(6, "0")}.md`, "");
    const { entries, skipped } = await createFolderSource(folder.path).list();
    expect(entries.length).toBe(FILES_MAX);
    expect(skipped).toEqual([{ path: `0${FILES_MAX}.md`, reason: `more than ${FILES_MAX} documents` }]);
  }, 60_000);

  test("links to folders aren't followed, to avoid cycles", async () => {
    const folder = createTestFolder({ "a.md": "# Apple" });
    mkdirSync(join(folder.path, "sub"));
    symlinkSync("..", join(folder.path, "sub/up"));
    const server = await startServer(folder.path);
    expect(await listPaths(server)).toEqual(["a.md"]);
    expect((await server.get("/sub/up/a.md")).status).toBe(404);
  });

  test("documents that are expensive to parse are indexed within 30 seconds", async () => {
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
    const startedAtMs = performance.now();
    const server = await startServer(folder.path);
    expect(performance.now() - startedAtMs).toBeLessThan(30_000);
    expect((await server.list("")).data.length).toBe(16);
    const headings = (await server.list("")).data.find(({ path }) => path === "headings.md")?.headings;
    expect(headings?.length).toBe(HEADINGS_MAX);
    expect(headings?.at(-1)?.slug).toBe(`heading-${HEADINGS_MAX - 1}`);
    // words.md has too many words for one index entry, but the entries of its passages contain all words.
    expect(await searchPaths(server, "firstword")).toEqual(["words.md"]);
    expect(await searchPaths(server, "lastword")).toEqual([]);
    expect((await server.documents.searchPassages("lastword", 1))[0]?.path).toBe("words.md");
    expect(await searchPaths(server, "quoted")).toEqual(["quotes.md"]);
  }, 60_000);
});
