import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createFolder, startDocuments } from "./start-documents.ts";

const folder = createFolder({
  "b.md": "# Beta\n\nText.\n\n## Install it\n\n## Install it\n",
  "a/z.md": '---\ntitle: "Zeta of a"\n---\n# Not the title\n',
  "a.md": "no heading at all",
  "Ünïcode dir/naïve file.md": "Setext\n======\n\nSecond\n------\n\n```sh\n# no heading\n```\n",
  "closed.md": "## Only second level ##\n",
  "ignored.txt": "# no markdown",
  ".hidden.md": "# hidden",
  ".git/x.md": "# hidden folder",
});
let server: Awaited<ReturnType<typeof startDocuments>>;
beforeAll(async () => {
  server = await startDocuments(folder.path);
});
afterAll(async () => {
  await server.stop();
  folder.remove();
});

describe("the list of documents", () => {
  test("contains every Markdown file that isn't hidden, sorted by path", async () => {
    const { data, next_cursor } = await server.list("");
    expect(next_cursor).toBeNull();
    expect(data.map(({ path, title }) => [path, title])).toEqual([
      ["a.md", "a"],
      ["a/z.md", "Zeta of a"],
      ["b.md", "Beta"],
      ["closed.md", "closed"],
      ["Ünïcode dir/naïve file.md", "Setext"],
    ]);
    const beta = data[2];
    expect(beta?.size).toBe(44);
    expect(Date.now() - Date.parse(beta?.updated_at ?? "")).toBeLessThan(600_000);
    expect(beta?.headings).toEqual([
      { level: 1, text: "Beta", slug: "beta" },
      { level: 2, text: "Install it", slug: "install-it" },
      { level: 2, text: "Install it", slug: "install-it-1" },
    ]);
    expect(data[4]?.headings.map(({ level, text }) => [level, text])).toEqual([
      [1, "Setext"],
      [2, "Second"],
    ]);
    expect(data.every((item) => !("rank" in item) && !("snippet" in item))).toBe(true);
  });

  test("is paginated, with a link to the next page", async () => {
    const listedPaths: string[] = [];
    let query = "?limit=2";
    for (let page = 0; page < 3; page++) {
      const response = await server.get(query);
      const body = (await response.json()) as Awaited<ReturnType<typeof server.list>>;
      listedPaths.push(...body.data.map(({ path }) => path));
      const link = response.headers.get("link");
      if (body.next_cursor === null) expect(link).toBeNull();
      else expect(link).toContain(`cursor=${body.next_cursor}>; rel="next"`);
      query = `?limit=2&cursor=${body.next_cursor}`;
    }
    expect(listedPaths).toEqual(["a.md", "a/z.md", "b.md", "closed.md", "Ünïcode dir/naïve file.md"]);
  });

  test("is also available with a trailing slash", async () => {
    expect((await server.list("/")).data.length).toBe(5);
  });

  test("returns 304 until it changes", async () => {
    const etag = (await server.get("")).headers.get("etag") ?? "";
    expect((await server.get("", { "if-none-match": etag })).status).toBe(304);
    expect((await server.get("", { "if-none-match": '"other"' })).status).toBe(200);
  });

  test.each([
    ["?limit=0", 422, "invalid"],
    ["?limit=x", 422, "invalid"],
    ["?cursor=nonsense", 400, "bad_cursor"],
    ["?q=%00", 422, "invalid"],
    [`?q=${"x".repeat(301)}`, 422, "invalid"],
    [`?q=beta&cursor=${Buffer.from('["v1","2","b.md"]').toString("base64url")}`, 400, "bad_cursor"],
    [`?q=beta&cursor=${Buffer.from('["v1","1e-400x","b.md"]').toString("base64url")}`, 400, "bad_cursor"],
    [`?q=beta&cursor=${Buffer.from('["v1","b.md"]').toString("base64url")}`, 400, "bad_cursor"],
  ])("rejects %p with %i %s", async (query, status, code) => {
    const response = await server.get(query);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ code });
  });

  test("requires authentication, and so does each document", async () => {
    for (const path of ["", "?q=beta", "/b.md", "/a/z.md"]) {
      const response = await server.get(path, { authorization: "Bearer invalid" });
      expect([path, response.status]).toEqual([path, 401]);
    }
  });
});
