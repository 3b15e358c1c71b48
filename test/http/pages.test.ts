import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parse } from "parse5";
import { errorCodes } from "../../src/lib/error-codes.ts";
import { renderGuide } from "../../src/modules/documents/guide-page.ts";
import { startApp, type TestApp } from "../support/app.ts";

const repositoryDir = join(import.meta.dir, "../..");
const readRepositoryFile = (path: string) => readFileSync(join(repositoryDir, path), "utf8");
const guideNames = readdirSync(join(repositoryDir, "docs")).flatMap((file) =>
  file.endsWith(".md") ? [file.slice(0, -3)] : [],
);
/** Every page that also exists as Markdown, at its path with `.md`. */
const pages = [
  ...["/docs", "/problems", "/asyncapi", "/swagger"],
  ...[...guideNames, "changelog"].map((name) => `/docs/${name}`),
  ...Object.keys(errorCodes).map((code) => `/problems/${code}`),
];

let parley: TestApp;
const pageTexts = new Map<string, string>();
beforeAll(async () => {
  parley = await startApp();
  for (const page of pages) pageTexts.set(page, await (await parley.fetch(page)).text());
});
afterAll(() => parley.stop());

const getText = (path: string) => pageTexts.get(path) ?? "";
const listMatches = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, found = ""]) => found);
const unescapeHref = (text: string) => text.replaceAll("&amp;", "&");
/** Removes code from Markdown, because brackets in code aren't links. */
const removeCode = (text: string) => text.replaceAll(/^ *```[\s\S]*?^ *```/gm, "").replaceAll(/`[^`\n]+`(?!\])/g, "");

/** The status of each linked path. Each path is requested only once. */
const statusByPath = new Map<string, number>();
async function fetchStatus(path: string): Promise<number> {
  const status = statusByPath.get(path) ?? (await parley.fetch(path)).status;
  statusByPath.set(path, status);
  return status;
}

describe.each(pages)("%s", (path) => {
  test("links to its Markdown, which is also returned for the page's own path if the client prefers Markdown", async () => {
    const page = await parley.fetch(path, { headers: { accept: "text/html,application/xml;q=0.9,*/*;q=0.8" } });
    expect([page.status, page.headers.get("content-type")]).toEqual([200, "text/html; charset=utf-8"]);
    expect(page.headers.get("link")).toBe(`<${path}.md>; rel="alternate"; type="text/markdown"`);
    expect(await page.text()).toContain(`<link rel="alternate" type="text/markdown" href="${path}.md">`);
    const markdownResponse = await parley.fetch(`${path}.md`);
    expect([markdownResponse.status, markdownResponse.headers.get("content-type")]).toEqual([
      200,
      "text/markdown; charset=utf-8",
    ]);
    const markdown = await markdownResponse.text();
    expect(markdown).toStartWith("# ");
    const negotiatedResponse = await parley.fetch(path, {
      headers: { accept: "text/markdown, text/html;q=0.9, */*;q=0.5" },
    });
    for (const response of [page, negotiatedResponse])
      expect(response.headers.get("vary")).toMatch(/^Accept, .*Origin$/);
    expect(await negotiatedResponse.text()).toBe(markdown);
  });
});

test("every page is valid HTML with one title, one h1 and unique IDs", () => {
  for (const [path, text] of pageTexts) {
    const parseErrors: string[] = [];
    parse(text, { onParseError: ({ code }) => parseErrors.push(code) });
    const ids = listMatches(text, /<[a-z\d]+(?: [^>]*)? id="([^"]+)"/g);
    expect([path, parseErrors, ids.filter((id, index) => ids.indexOf(id) !== index)]).toEqual([path, [], []]);
    if (path !== "/swagger") expect([path, text.split("<h1").length]).toEqual([path, 2]);
    expect(text.split("<title>").length).toBe(2);
  }
});

test("every internal link leads to an existing page and anchor", async () => {
  const brokenLinks: string[] = [];
  let linkCount = 0;
  for (const [path, text] of pageTexts)
    for (const target of listMatches(text, /<a [^>]*href="([^"]+)"/g).map(unescapeHref)) {
      if (/^https?:/.test(target)) continue;
      linkCount += 1;
      const [page = "", anchor] = target.split("#");
      const linkedPath = page === "" ? path : page;
      const isFound = (await fetchStatus(linkedPath)) === 200;
      const hasAnchor = anchor === undefined || getText(linkedPath).includes(` id="${decodeURIComponent(anchor)}"`);
      if (!isFound || !hasAnchor) brokenLinks.push(`${path}: ${target}`);
    }
  expect(brokenLinks).toEqual([]);
  expect(linkCount).toBeGreaterThan(1_000);
});

test("a guide's Markdown is the file in docs/ without links to decisions and to files outside docs/", async () => {
  const changedGuides: string[] = [];
  for (const name of guideNames) {
    const file = readRepositoryFile(`docs/${name}.md`);
    const servedMarkdown = await (await parley.fetch(`/docs/${name}.md`)).text();
    const removeLinks = (text: string) => text.replaceAll(/\[([^\]\n]*)\]\((?:\.\.|decisions)\/[^)\s]*\)/g, "$1");
    expect(servedMarkdown).toBe(removeLinks(file));
    if (servedMarkdown !== file) changedGuides.push(name);
    for (const target of listMatches(removeCode(servedMarkdown), /\]\(([^)\s]+)\)/g).filter(
      (target) => !/^(?:https?:|#)/.test(target),
    ))
      expect([name, target, await fetchStatus(new URL(target, `${parley.url}/docs/x`).pathname)]).toEqual([
        name,
        target,
        200,
      ]);
  }
  expect(changedGuides).toContain("architecture");
});

test("/llms.txt has the format of llmstxt.org, and links to the Markdown of every guide and reference", async () => {
  const response = await parley.fetch("/llms.txt");
  expect(response.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  const text = await response.text();
  expect(text).toMatch(/^# Parley\n\n> An AI chat backend in one executable\..*\.\n\n[^#\n-]/);
  const sections = text.split(/^## /m).slice(1);
  expect(sections.map((section) => section.split("\n")[0])).toEqual([
    "API reference",
    "For application developers",
    "For operators",
    "Optional",
  ]);
  for (const section of sections) expect(section).toMatch(/^[\w ]+\n\n(?:- \[[^\]\n]+\]\(\/[^)\s]+\)(?:: .+)?\n)+\n?$/);
  const targets = listMatches(text, /\]\(([^)]+)\)/g);
  for (const target of targets) expect([target, await fetchStatus(target)]).toEqual([target, 200]);
  const expectedTargets = [...guideNames, "changelog"].map((name) => `/docs/${name}.md`);
  expect(targets.filter((target) => target.startsWith("/docs/")).sort()).toEqual(expectedTargets.sort());
  expect(targets).toEqual(expect.arrayContaining(["/swagger.md", "/asyncapi.md", "/problems.md"]));
});

test("/llms-full.txt starts with the quick start, contains every guide, and has no relative links", async () => {
  const text = await (await parley.fetch("/llms-full.txt")).text();
  expect(listMatches(text, /^<!-- \/docs\/([\w-]+)\.md -->$/gm).sort()).toEqual([...guideNames].sort());
  expect(text).toStartWith("<!-- /docs/getting-started.md -->\n\n# ");
  expect(listMatches(removeCode(text), /\]\(((?!https?:|#|\/docs\/)[^)\s]+)\)/g)).toEqual([]);
  expect(text).toContain("](/docs/group-chat.md)");
});

test("/swagger.md contains every operation with its scope, and every schema", async () => {
  const { paths, components } = JSON.parse(readRepositoryFile("contract/openapi.json"));
  const text = await (await parley.fetch("/swagger.md")).text();
  for (const [path, methods] of Object.entries(paths))
    for (const method of Object.keys(methods as object))
      expect(text).toContain(`\n### ${method.toUpperCase()} ${path}\n`);
  for (const name of Object.keys(components.schemas)) expect(text).toContain(`\n### ${name}\n`);
  const section = text.split("### POST /api/v1/conversations\n")[1]?.split("\n### ")[0] ?? "";
  expect(section).toContain("An API key needs the scope `conversations:write`");
  expect(section).toContain("- `application/json`: `CreateConversation`\n");
  expect(section).toContain("- 201: `Conversation` as `application/json`\n");
  expect(section).toContain("- `Idempotency-Key` (header, string, optional): 1 to 255 visible");
  expect(text).toContain("- `limit` (query, integer, 1 to 200, default `50`, optional): Rows per page.");
  expect(text).not.toMatch(/undefined|\[object/);
});

test("/asyncapi.md contains every message, close code and limit, and this server's URL", async () => {
  const { channels, components } = JSON.parse(readRepositoryFile("contract/asyncapi.json"));
  const text = await (await parley.fetch("/asyncapi.md")).text();
  for (const [key, { name }] of Object.entries(components.messages as Record<string, { name: string }>))
    expect(text).toContain(key === name ? `\n### ${key}\n` : `\n### ${key}: \`${name}\`\n`);
  for (const { code, name } of channels.realtime["x-close-codes"]) expect(text).toContain(`\n- ${code} \`${name}\`: `);
  for (const { name, value } of channels.realtime["x-limits"]) expect(text).toContain(`\n- \`${name}\`: ${value} `);
  expect(text).toContain(`- \`${parley.url.replace("http", "ws")}/realtime\``);
  expect(text).not.toMatch(/undefined|\[object/);
});

test("the search finds sections that contain all words, links to them, and escapes the query", async () => {
  const page = await (await parley.fetch("/docs?q=REFRESH+token+Reuse")).text();
  const links = listMatches(page, /<li><a href="(\/docs\/[^"]+)"/g);
  expect(links.length).toBeGreaterThan(0);
  for (const link of links) {
    const [path = "", anchor] = link.split("#");
    if (anchor !== undefined) expect(getText(path)).toContain(` id="${anchor}"`);
  }
  expect(await (await parley.fetch("/docs?q=token+nosuchword")).text()).toContain("Nothing found.");
  const emptyPage = await (await parley.fetch(`/docs?q=${encodeURIComponent('"><script>alert(1)</script>')}`)).text();
  expect(emptyPage).toContain("Nothing found.");
  expect(emptyPage).not.toContain("<script");
  expect((await parley.fetch(`/docs?q=${"x".repeat(201)}`)).status).toBe(422);
});

test("pages have an ETag, can be compressed, and have a CSP that allows only their own style", async () => {
  for (const path of ["/docs", "/docs/realtime", "/docs/realtime.md", "/llms.txt", "/swagger.md", "/asyncapi.md"]) {
    const uncompressedResponse = await parley.fetch(path, { headers: { "accept-encoding": "identity" } });
    const compressedResponse = await fetch(`${parley.url}${path}`, {
      headers: { "accept-encoding": "gzip" },
      decompress: false,
    });
    expect([
      uncompressedResponse.headers.get("content-encoding"),
      compressedResponse.headers.get("content-encoding"),
    ]).toEqual([null, "gzip"]);
    expect(uncompressedResponse.headers.get("cache-control")).toContain("no-cache");
    const etag = uncompressedResponse.headers.get("etag") ?? "";
    expect(compressedResponse.headers.get("etag")).not.toBe(etag);
    const cachedResponse = await parley.fetch(path, {
      headers: { "accept-encoding": "identity", "if-none-match": etag },
    });
    expect([path, cachedResponse.status]).toEqual([path, 304]);
  }
  for (const path of ["/docs", "/docs/realtime", "/problems", "/problems/invalid"]) {
    const policy = (await parley.fetch(path)).headers.get("content-security-policy") ?? "";
    const style = /<style>(.*?)<\/style>/s.exec(getText(path))?.[1] ?? "";
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

test("/docs contains Parley's guides even if DOCUMENTS_DIR is set", async () => {
  const customApp = await startApp({ config: { DOCUMENTS_DIR: join(repositoryDir, "test/guides") } });
  try {
    expect(await (await customApp.fetch("/docs/realtime")).text()).toBe(getText("/docs/realtime"));
  } finally {
    await customApp.stop();
  }
});
