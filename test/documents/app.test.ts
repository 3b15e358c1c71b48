import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { SCAN_INTERVAL_MS } from "../../src/modules/documents/service.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createFolder } from "./start-documents.ts";

const folder = createFolder({ "team/handbook.md": "# Handbook\n\nLunch is at noon.\n" });
let parley: TestApp;
let token: string;
beforeAll(async () => {
  parley = await startApp({ config: { DOCUMENTS_DIR: folder.path } });
  token = (await parley.register()).access_token;
});
afterAll(async () => {
  await parley.stop();
  folder.remove();
});

describe("documents in the app", () => {
  test("are available from the first request, but only to authenticated users", async () => {
    const response = await parley.fetch("/api/v1/documents?q=lunch", { token });
    expect(await response.json()).toMatchObject({
      data: [{ path: "team/handbook.md", title: "Handbook", snippet: "<mark>Lunch</mark> is at noon" }],
      next_cursor: null,
    });
    expect((await parley.fetch("/api/v1/documents?q=lunch")).status).toBe(401);
    expect((await parley.fetch("/api/v1/documents/team%2Fhandbook.md")).status).toBe(401);
  });

  test("have their format's CSP and caching headers in addition to the common headers", async () => {
    const html = await parley.fetch("/api/v1/documents/team/handbook.md", { token, headers: { accept: "text/html" } });
    expect(html.headers.get("content-security-policy")).toContain("default-src 'none'; style-src 'sha256-");
    const vary = html.headers.get("vary")?.toLowerCase() ?? "";
    expect(vary).toContain("accept");
    expect(vary).toContain("origin");
    expect(html.headers.get("cache-control")).toBe("private, no-cache");
    expect(html.headers.get("x-request-id")).not.toBeNull();
  });

  test("can't be deleted with a DELETE request", async () => {
    for (const path of ["/api/v1/documents", "/api/v1/documents/a.md", "/api/v1/documents/team/handbook.md"]) {
      const response = await parley.fetch(path, { token, method: "DELETE" });
      expect([path, response.status]).toEqual([path, 405]);
    }
  });

  test("are indexed again after a change, even without a request", async () => {
    folder.write("team/handbook.md", "# Handbook\n\nDinner is at eight.\n");
    const countResults = async () =>
      ((await (await parley.fetch("/api/v1/documents?q=dinner", { token })).json()) as { data: unknown[] }).data.length;
    const deadlineMs = performance.now() + SCAN_INTERVAL_MS + 3_000;
    while ((await countResults()) === 0 && performance.now() < deadlineMs) await Bun.sleep(50);
    expect(await countResults()).toBe(1);
  });

  test("are in the OpenAPI document with all their formats", async () => {
    const { paths } = (await (await parley.fetch("/swagger/json")).json()) as {
      paths: Record<string, { get: { parameters: unknown[]; responses: Record<string, { content: object }> } }>;
    };
    const operation = paths["/api/v1/documents/{path}"]?.get;
    expect(operation?.parameters).toContainEqual(expect.objectContaining({ in: "path", name: "path", required: true }));
    expect(Object.keys(operation?.responses["200"]?.content ?? {})).toEqual([
      "text/markdown",
      "application/json",
      "text/html",
    ]);
    for (const name of ["limit", "cursor", "q"])
      expect(paths["/api/v1/documents"]?.get.parameters).toContainEqual(expect.objectContaining({ in: "query", name }));
  });
});
