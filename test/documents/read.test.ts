import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FILE_BYTES_MAX } from "../../src/modules/documents/source.ts";
import { createFolder, startDocuments } from "./start-documents.ts";

const SECRET = "the secret outside the folder";
const aboutText = "# Über uns\n\nHello *world*.\n";
const outsideFolder = mkdtempSync(join(tmpdir(), "parley-outside-"));
const folder = createFolder({
  "about.md": aboutText,
  "guides/deep/start.md": "# Start",
  "100% sure.md": "# Percent",
  "a+b & c.md": "# Signs",
  ".hidden.md": SECRET,
  ".git/config.md": SECRET,
  "notes.txt": SECRET,
  "upper.MD": SECRET,
  "large.md": "x".repeat(FILE_BYTES_MAX + 1),
  "full.md": "x".repeat(FILE_BYTES_MAX),
  "broken.md": Uint8Array.from([0x23, 0x20, 0xff, 0x00, 0x41]),
});
let server: Awaited<ReturnType<typeof startDocuments>>;
beforeAll(async () => {
  writeFileSync(join(outsideFolder, "secret.md"), SECRET);
  symlinkSync(join(outsideFolder, "secret.md"), join(folder.path, "link-out.md"));
  symlinkSync("../../../../../../../../etc/passwd", join(folder.path, "passwd.md"));
  symlinkSync(outsideFolder, join(folder.path, "folder-out"));
  symlinkSync("loop.md", join(folder.path, "loop.md"));
  // The layout of a mounted Kubernetes ConfigMap.
  mkdirSync(join(folder.path, "..2026_01"));
  writeFileSync(join(folder.path, "..2026_01/mounted.md"), "# Mounted");
  symlinkSync("..2026_01", join(folder.path, "..data"));
  symlinkSync("..data/mounted.md", join(folder.path, "mounted.md"));
  Bun.spawnSync(["mkfifo", join(folder.path, "pipe.md")]);
  mkdirSync(join(folder.path, "directory.md"));
  server = await startDocuments(folder.path);
});
afterAll(async () => {
  await server.stop();
  folder.remove();
  rmSync(outsideFolder, { recursive: true });
});

describe("a document", () => {
  test("is returned unchanged as Markdown by default", async () => {
    for (const accept of ["", "*/*", "text/*", "text/markdown;variant=GFM", "text/html;q=0.5, text/markdown"]) {
      const response = await server.get("/about.md", accept ? { accept } : {});
      expect(response.status).toBe(200);
      expect(response.headers.get("content-type")).toBe("text/markdown; charset=utf-8");
      expect(response.headers.get("vary")?.toLowerCase()).toContain("accept");
      expect(await response.text()).toBe(aboutText);
    }
  });

  test("is available as JSON with its structure", async () => {
    const response = await server.get("/about.md", { accept: "application/json" });
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(await response.json()).toEqual({
      path: "about.md",
      title: "Über uns",
      size: Buffer.byteLength(aboutText),
      updated_at: expect.stringMatching(/^20\d\d-.*Z$/),
      headings: [{ level: 1, text: "Über uns", slug: "über-uns" }],
      content: aboutText,
    });
  });

  test("is returned to browsers as an HTML page", async () => {
    const accept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    const response = await server.get("/about.md", { accept });
    expect(response.headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(await response.text()).toContain('<h1 id="über-uns">Über uns</h1>\n<p>Hello <em>world</em>.</p>');
  });

  test.each(["image/png", "text/markdown;q=0", "application/xml, text/plain", "text/html;q=0, application/json;q=0"])(
    "isn't available with the Accept header %p",
    async (accept) => {
      const response = await server.get("/about.md", { accept });
      expect(response.status).toBe(406);
      expect(await response.json()).toMatchObject({ code: "not_acceptable" });
    },
  );

  test("has a separate ETag in each format, and returns 304 until it changes", async () => {
    const etags = new Set<string>();
    for (const accept of ["text/markdown", "application/json", "text/html"]) {
      const firstResponse = await server.get("/about.md", { accept });
      const etag = firstResponse.headers.get("etag") ?? "";
      etags.add(etag);
      const cachedResponse = await server.get("/about.md", { accept, "if-none-match": `"x", W/${etag}` });
      expect([cachedResponse.status, await cachedResponse.text(), cachedResponse.headers.get("etag")]).toEqual([
        304,
        "",
        etag,
      ]);
      expect(cachedResponse.headers.get("vary")?.toLowerCase()).toContain("accept");
      expect((await server.get("/about.md", { accept, "if-none-match": '"x"' })).status).toBe(200);
    }
    expect(etags.size).toBe(3);
  });

  test.each([
    ["guides/deep/start.md", "# Start"],
    ["guides%2Fdeep%2fstart.md", "# Start"],
    ["guides/deep%2Fstart.md", "# Start"],
    ["100%25%20sure.md", "# Percent"],
    ["a+b%20&%20c.md", "# Signs"],
    ["guides/../about.md", aboutText],
    ["mounted.md", "# Mounted"],
  ])("can be requested at %p", async (path, content) => {
    expect(await server.getRaw(path)).toEqual({ status: 200, body: content });
  });

  test.each([
    "missing.md",
    "guides",
    "guides/deep/",
    "%2e%2e/secret.md",
    "%2e%2e%2fsecret.md",
    "..%2fsecret.md",
    "guides%2f..%2fabout.md",
    "%252e%252e%252fsecret.md",
    "guides/%2e%2e%2f%2e%2e%2f%2e%2e%2fetc/passwd",
    "..%5csecret.md",
    "guides%5cdeep%5cstart.md",
    "%c0%ae%c0%ae/secret.md",
    "%ff.md",
    "%.md",
    "about.md%00",
    "about.md%00.md",
    "%00",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    `${encodeURIComponent(outsideFolder)}/secret.md`,
    `/${outsideFolder}/secret.md`,
    "file:%2f%2f/etc/passwd",
    "about.md/",
    "about.md%2f",
    "./.hidden.md",
    ".hidden.md",
    ".git/config.md",
    "guides//deep/start.md",
    "guides%2f%2fdeep/start.md",
    "guides%2f.%2fdeep/start.md",
    "notes.txt",
    "upper.MD",
    "About.md",
    "link-out.md",
    "passwd.md",
    "folder-out/secret.md",
    "loop.md",
    "pipe.md",
    "directory.md",
    "large.md",
    "..data/mounted.md",
    `${"a/".repeat(20)}x.md`,
    `${"x".repeat(5000)}.md`,
  ])("can't be requested at %p", async (path) => {
    const { status, body } = await server.getRaw(path);
    expect([status, JSON.parse(body).code]).toEqual([404, "not_found"]);
    expect(body).not.toContain(SECRET);
    expect(body).not.toContain("root:");
  });

  test("isn't listed if it can't be read", async () => {
    const { data } = await server.list("");
    expect(data.map(({ path }) => path)).toEqual([
      "100% sure.md",
      "a+b & c.md",
      "about.md",
      "broken.md",
      "full.md",
      "guides/deep/start.md",
      "mounted.md",
    ]);
    expect((await server.list("?q=secret")).data).toEqual([]);
  });

  test("is found at its listed path, even if the path contains special characters", async () => {
    for (const { path } of (await server.list("")).data)
      expect((await server.get(`/${encodeURIComponent(path)}`)).status).toBe(200);
  });

  test("with invalid UTF-8 is returned with replacement characters", async () => {
    const response = await server.get("/broken.md", { accept: "application/json" });
    expect(await response.json()).toMatchObject({ title: "\uFFFDA", size: 5, content: "# \uFFFD\u0000A" });
  });
});

test("a link that was changed to point outside the folder after it was indexed isn't followed", async () => {
  const linkFolder = createFolder({ "a.md": "# A" });
  symlinkSync("a.md", join(linkFolder.path, "b.md"));
  const linkServer = await startDocuments(linkFolder.path);
  try {
    expect((await linkServer.get("/b.md")).status).toBe(200);
    rmSync(join(linkFolder.path, "b.md"));
    symlinkSync(join(outsideFolder, "secret.md"), join(linkFolder.path, "b.md"));
    expect((await linkServer.get("/b.md")).status).toBe(404);
  } finally {
    await linkServer.stop();
    linkFolder.remove();
  }
});
