import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startDocuments } from "./start-documents.ts";

const docsDir = join(import.meta.dir, "../../docs");
let server: Awaited<ReturnType<typeof startDocuments>>;
beforeAll(async () => {
  server = await startDocuments();
});
afterAll(() => server.stop());

describe("if DOCUMENTS_DIR isn't set, Parley's guides", () => {
  test("are listed, except those for maintainers", async () => {
    const guides = readdirSync(docsDir, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".md"));
    const expectedPaths = guides.filter((path) => !path.startsWith("decisions/") && path !== "architecture.md").sort();
    expect(expectedPaths).toContain("getting-started.md");
    expect((await server.list("")).data.map(({ path }) => path)).toEqual(expectedPaths);
  });

  test("are returned unchanged", async () => {
    const text = readFileSync(join(docsDir, "realtime.md"), "utf8");
    expect(await (await server.get("/realtime.md")).text()).toBe(text);
    expect((await server.get("/decisions/README.md")).status).toBe(404);
    expect((await server.getRaw("%2e%2e%2fpackage.json")).status).toBe(404);
  });

  test("can be searched", async () => {
    expect((await server.list("?q=failover%20chain")).data[0]).toMatchObject({ path: "models.md", title: "Models" });
    const [passage] = await server.documents.searchPassages("How do I recover what I missed?", 3);
    const heading = "Messages are missing or shown twice after a reconnect";
    expect(passage).toMatchObject({ path: "troubleshooting.md", heading });
  });

  test("link only to existing guides", async () => {
    for (const { path } of (await server.list("")).data) {
      const text = await (await server.get(`/${encodeURIComponent(path)}`)).text();
      for (const [, link] of text.matchAll(/\]\(([\w./-]+\.md)(?:#[\w-]+)?\)/g))
        expect([path, link, (await server.get(`/${link}`)).status]).toEqual([path, link, 200]);
    }
  });
});
