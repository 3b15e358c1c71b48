import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "parse5";
import { errorCodes } from "../../src/lib/error-codes.ts";
import { renderGuide } from "../../src/modules/documents/guide-page.ts";
import { startApp, type TestApp } from "../support/app.ts";

const root = join(import.meta.dir, "../..");
const read = (path: string) => readFileSync(join(root, path), "utf8");
const names = readdirSync(join(root, "docs")).flatMap((file) => (file.endsWith(".md") ? [file.slice(0, -3)] : []));
/** Every page that has a markdown twin at its path with `.md`. */
const pages = [
  ...["/docs", "/problems", "/asyncapi", "/swagger"],
  ...[...names, "changelog"].map((name) => `/docs/${name}`),
  ...Object.keys(errorCodes).map((code) => `/problems/${code}`),
];

let parley: TestApp;
const texts = new Map<string, string>();
beforeAll(async () => {
  parley = await startApp();
  for (const page of pages) texts.set(page, await (await parley.fetch(page)).text());
});
afterAll(() => parley.stop());

const textOf = (path: string) => texts.get(path) ?? "";
const listAll = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, found = ""]) => found);
const readHref = (text: string) => text.replaceAll("&amp;", "&");
/** Markdown without code, whose brackets are no links. */
const withoutCode = (text: string) => text.replaceAll(/^ *```[\s\S]*?^ *```/gm, "").replaceAll(/`[^`\n]+`(?!\])/g, "");

/** Statuses of links by path; each is requested once. */
const statuses = new Map<string, number>();
async function statusOf(path: string): Promise<number> {
  const known = statuses.get(path) ?? (await parley.fetch(path)).status;
  statuses.set(path, known);
  return known;
}

describe.each(pages)("%s", (path) => {
  test("is a page that names its markdown, which Accept returns as well", async () => {
    const page = await parley.fetch(path, { headers: { accept: "text/html,application/xml;q=0.9,*/*;q=0.8" } });
    expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expect(page.headers.get("link")).toBe(`<${path}.md>; rel="alternate"; type="text/markdown"`);
    expect(await page.text()).toContain(`<link rel="alternate" type="text/markdown" href="${path}.md">`);
    const twin = await parley.fetch(`${path}.md`);
    expect([twin.status, twin.headers.get("content-type")]).toEqual([200, "text/markdown; charset=utf-8"]);
    const markdown = await twin.text();
    expect(markdown).toStartWith("# ");
    const chosen = await parley.fetch(path, { headers: { accept: "text/markdown, text/html;q=0.9, */*;q=0.5" } });
    for (const response of [page, chosen]) expect(response.headers.get("vary")).toMatch(/^Accept, .*Origin$/);
    expect(await chosen.text()).toBe(markdown);
  });
});

test("every page is valid HTML, with one title, one h1 and unique ids", () => {
  for (const [path, text] of texts) {
    const faults: string[] = [];
    parse(text, { onParseError: ({ code }) => faults.push(code) });
    const ids = listAll(text, /<[a-z\d]+(?: [^>]*)? id="([^"]+)"/g);
    expect([path, faults, ids.filter((id, at) => ids.indexOf(id) !== at)]).toEqual([path, [], []]);
    if (path !== "/swagger") expect([path, text.split("<h1").length]).toEqual([path, 2]);
    expect(text.split("<title>").length).toBe(2);
  }
});

test("every link on every page leads to a page of this server and to an anchor of it", async () => {
  const broken: string[] = [];
  let count = 0;
  for (const [path, text] of texts)
    for (const target of listAll(text, /<a [^>]*href="([^"]+)"/g).map(readHref)) {
      if (/^https?:/.test(target)) continue;
      count += 1;
      const [page = "", anchor] = target.split("#");
      const linked = page === "" ? path : page;
      const isFound = (await statusOf(linked)) === 200;
      const isThere = anchor === undefined || textOf(linked).includes(` id="${decodeURIComponent(anchor)}"`);
      if (!isFound || !isThere) broken.push(`${path}: ${target}`);
    }
  expect(broken).toEqual([]);
  expect(count).toBeGreaterThan(1_000);
});

test("the markdown of a guide is the file in docs/, except links that lead out of docs/", async () => {
  const changed: string[] = [];
  for (const name of names) {
    const file = read(`docs/${name}.md`);
    const twin = await (await parley.fetch(`/docs/${name}.md`)).text();
    const withoutLinks = (text: string) => text.replaceAll(/\[([^\]\n]*)\]\((?:\.\.|decisions)\/[^)\s]*\)/g, "$1");
    expect(twin).toBe(withoutLinks(file));
    if (twin !== file) changed.push(name);
    for (const target of listAll(withoutCode(twin), /\]\(([^)\s]+)\)/g).filter((one) => !/^(?:https?:|#)/.test(one)))
      expect([name, target, await statusOf(new URL(target, `${parley.url}/docs/x`).pathname)]).toEqual([
        name,
        target,
        200,
      ]);
  }
  expect(changed).toContain("architecture");
});

test("/llms.txt has the form of llmstxt.org, and links to the markdown of every guide and of every reference", async () => {
  const response = await parley.fetch("/llms.txt");
  expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  const text = await response.text();
  expect(text).toMatch(/^# Parley\n\n> An AI chat backend in one executable\..*\.\n\n[^#\n-]/);
  const parts = text.split(/^## /m).slice(1);
  expect(parts.map((part) => part.split("\n")[0])).toEqual([
    "API reference",
    "For application developers",
    "For operators",
    "Optional",
  ]);
  for (const part of parts) expect(part).toMatch(/^[\w ]+\n\n(?:- \[[^\]\n]+\]\(\/[^)\s]+\)(?:: .+)?\n)+\n?$/);
  const targets = listAll(text, /\]\(([^)]+)\)/g);
  for (const target of targets) expect([target, await statusOf(target)]).toEqual([target, 200]);
  const expected = [...names, "changelog"].map((name) => `/docs/${name}.md`);
  expect(targets.filter((target) => target.startsWith("/docs/")).sort()).toEqual(expected.sort());
  expect(targets).toEqual(expect.arrayContaining(["/swagger.md", "/asyncapi.md", "/problems.md"]));
});

test("/llms-full.txt has every guide, the quick start first, and its links lead to guides", async () => {
  const text = await (await parley.fetch("/llms-full.txt")).text();
  expect(listAll(text, /^<!-- \/docs\/([\w-]+)\.md -->$/gm).sort()).toEqual([...names].sort());
  expect(text).toStartWith("<!-- /docs/getting-started.md -->\n\n# ");
  expect(listAll(withoutCode(text), /\]\(((?!https?:|#|\/docs\/)[^)\s]+)\)/g)).toEqual([]);
  expect(text).toContain("](/docs/group-chat.md)");
});

test("/swagger.md has every operation with its scope, and every schema", async () => {
  const { paths, components } = JSON.parse(read("contract/openapi.json"));
  const text = await (await parley.fetch("/swagger.md")).text();
  for (const [path, methods] of Object.entries(paths))
    for (const method of Object.keys(methods as object))
      expect(text).toContain(`\n### ${method.toUpperCase()} ${path}\n`);
  for (const name of Object.keys(components.schemas)) expect(text).toContain(`\n### ${name}\n`);
  const section = text.split("### POST /api/v1/conversations\n")[1]?.split("\n### ")[0] ?? "";
  expect(section).toContain("an API key needs the scope `conversations:write`");
  expect(section).toContain("- `application/json`: `CreateConversation`\n");
  expect(section).toContain("- 201: `Conversation` as `application/json`\n");
  expect(section).toContain("- `Idempotency-Key` (header, string, optional): 1 to 255 visible");
  expect(text).toContain("- `limit` (query, integer, 1 to 200, default `50`, optional): Rows per page.");
  expect(text).not.toMatch(/undefined|\[object/);
});

test("/asyncapi.md has every message, close code and limit, and this server's address", async () => {
  const { channels, components } = JSON.parse(read("contract/asyncapi.json"));
  const text = await (await parley.fetch("/asyncapi.md")).text();
  for (const [key, { name }] of Object.entries(components.messages as Record<string, { name: string }>))
    expect(text).toContain(key === name ? `\n### ${key}\n` : `\n### ${key}: \`${name}\`\n`);
  for (const { code, name } of channels.realtime["x-close-codes"]) expect(text).toContain(`\n- ${code} \`${name}\`: `);
  for (const { name, value } of channels.realtime["x-limits"]) expect(text).toContain(`\n- \`${name}\`: ${value} `);
  expect(text).toContain(`- \`${parley.url.replace("http", "ws")}/realtime\``);
  expect(text).not.toMatch(/undefined|\[object/);
});

test("the search finds sections with all words, by anchor, and escapes the query", async () => {
  const page = await (await parley.fetch("/docs?q=REFRESH+token+Reuse")).text();
  const links = listAll(page, /<li><a href="(\/docs\/[^"]+)"/g);
  expect(links.length).toBeGreaterThan(0);
  for (const link of links) {
    const [path = "", anchor] = link.split("#");
    if (anchor !== undefined) expect(textOf(path)).toContain(` id="${anchor}"`);
  }
  const nothing = await (await parley.fetch(`/docs?q=${encodeURIComponent('"><script>alert(1)</script>')}`)).text();
  expect(nothing).toContain("Nothing found.");
  expect(nothing).not.toContain("<script");
  expect((await parley.fetch(`/docs?q=${"x".repeat(201)}`)).status).toBe(422);
});

test("pages have an ETag, gzip, and a policy that allows only their own style", async () => {
  for (const path of ["/docs", "/docs/realtime", "/docs/realtime.md", "/llms.txt", "/swagger.md", "/asyncapi.md"]) {
    const plain = await parley.fetch(path, { headers: { "accept-encoding": "identity" } });
    const zipped = await fetch(`${parley.url}${path}`, { headers: { "accept-encoding": "gzip" }, decompress: false });
    expect([plain.headers.get("content-encoding"), zipped.headers.get("content-encoding")]).toEqual([null, "gzip"]);
    expect(plain.headers.get("cache-control")).toContain("no-cache");
    const etag = plain.headers.get("etag") ?? "";
    expect(zipped.headers.get("etag")).not.toBe(etag);
    const again = await parley.fetch(path, { headers: { "accept-encoding": "identity", "if-none-match": etag } });
    expect([path, again.status]).toEqual([path, 304]);
  }
  for (const path of ["/docs", "/docs/realtime", "/problems", "/problems/invalid"]) {
    const policy = (await parley.fetch(path)).headers.get("content-security-policy") ?? "";
    const style = /<style>(.*?)<\/style>/s.exec(textOf(path))?.[1] ?? "";
    expect(policy).toContain(`style-src 'sha256-${new Bun.CryptoHasher("sha256").update(style).digest("base64")}'`);
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/script-src|unsafe|https?:/);
  }
});

test.each(["nothing", "nothing.md", "readme", "constructor", "..%2fpackage.json", "getting-started.md.md"])(
  "/docs/%s returns 404",
  async (name) => {
    const response = await parley.fetch(`/docs/${name}`);
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([404, "not_found"]);
  },
);

test("raw HTML in a guide is harmless", () => {
  const markdown =
    '# <img src=x onerror=alert(1)>\n\n## <script>alert(2)</script>\n\n<script>alert(3)</script>\n\n<a href="javascript:alert(4)" onclick="alert(5)">x</a> [y](javascript:alert(6))\n\n<iframe src="//evil.example"></iframe><style>*{}</style></main></div>';
  const page = renderGuide({ name: "evil", title: '</title><script>alert(7)</script>"', markdown });
  expect(page).not.toMatch(/<script|<iframe|javascript:|\son\w+=|evil\.example/);
  expect(page.split("<style").length).toBe(2);
  expect(page.split("</main>").length).toBe(2);
});

test("the pages show Parley's guides even if DOCUMENTS_DIR has others", async () => {
  const elsewhere = await startApp({ config: { DOCUMENTS_DIR: join(root, "test/guides") } });
  try {
    expect(await (await elsewhere.fetch("/docs/realtime")).text()).toBe(textOf("/docs/realtime"));
  } finally {
    await elsewhere.stop();
  }
});
