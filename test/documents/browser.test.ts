import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderPage } from "../../src/modules/documents/html-page.ts";
import { createSite, type Site } from "../acceptance/site.ts";
import { openChromium, readDom } from "../support/chromium.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { vectors } from "./xss-vectors.ts";

setDefaultTimeout(120_000);

/** The script of the page with the vectors, each in its own frame so that none affects the others. */
const harness = `
const hits = new Set();
const use = (frame) => {
  const inside = frame.contentDocument;
  if (!inside?.body) return;
  for (const element of inside.body.querySelectorAll("*")) {
    for (const type of ["mouseover", "pointerover", "focus", "wheel"]) element.dispatchEvent(new Event(type, { bubbles: true }));
    if (element.href && !/^(?:https?|mailto):/.test(element.protocol ?? "")) element.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  }
};
addEventListener("load", async () => {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const frames = [...document.querySelectorAll("iframe")];
  await wait(1500);
  for (const frame of frames) try { use(frame); } catch {}
  await wait(500);
  // Vectors that change their meaning when serialized and parsed again.
  for (const frame of frames) try { frame.contentDocument.body.innerHTML += ""; } catch {}
  await wait(1500);
  await fetch("/report", { method: "POST", body: JSON.stringify([...hits]) });
});
function hit(index) { hits.add(index); }
`;

let report: PromiseWithResolvers<number[]>;
const loads: string[] = [];
let pages: Record<string, string> = {};
let proxied: (() => Promise<Response>) | undefined;
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/report") report.resolve((await request.json()) as number[]);
    else if (pathname.startsWith("/canary/")) loads.push(pathname);
    else if (pathname === "/page" && proxied) return proxied();
    else if (pages[pathname])
      return new Response(pages[pathname], { headers: { "content-type": "text/html; charset=utf-8" } });
    return new Response();
  },
});
afterAll(() => server.stop(true));

const withCanary = (vector: string) => vector.replaceAll("canary.test", `127.0.0.1:${server.port}/canary`);

/** In a sandbox without `allow-modals`, so that no dialog blocks the rest. */
function createHarness(bodies: string[]): string {
  const frames = bodies.map((body, index) => {
    const own = `<!doctype html><script>alert = prompt = () => parent.hit(${index})</script><body>`;
    return `<iframe sandbox="allow-scripts allow-same-origin allow-forms allow-popups" srcdoc="${(own + body).replaceAll("&", "&amp;").replaceAll('"', "&quot;")}"></iframe>`;
  });
  return `<!doctype html><meta charset=utf-8><script>${harness}</script>${frames.join("\n")}`;
}

/** The vectors that ran, and the URLs that were loaded. */
async function visit(bodies: string[]): Promise<{ hits: number[]; loads: string[] }> {
  report = Promise.withResolvers();
  loads.length = 0;
  pages = { "/": createHarness(bodies) };
  const { close } = openChromium(`http://127.0.0.1:${server.port}/`);
  try {
    return { hits: await report.promise, loads: [...loads] };
  } finally {
    await close();
  }
}

test("Chromium runs and loads unsanitized vectors", async () => {
  const { hits, loads } = await visit(vectors.map((vector) => Bun.markdown.html(withCanary(vector))));
  expect(hits.length).toBeGreaterThan(100);
  expect(loads.length).toBeGreaterThan(5);
});

test("Chromium runs and loads nothing of the rendered documents", async () => {
  const bodies = vectors.map((vector) => /<main>(.*)<\/main>/s.exec(renderPage("t", withCanary(vector)))?.[1] ?? "");
  expect(bodies.filter((body) => body.trim() !== "").length).toBeGreaterThan(200);
  const { hits, loads } = await visit(bodies);
  expect({ hits: hits.map((index) => vectors[index]), loads }).toEqual({ hits: [], loads: [] });
});

let site: Site;
beforeAll(async () => {
  site = await createSite();
});
afterAll(() => site.remove());

/** Whether following text is still a separate paragraph. Unclosed comments, `<textarea>` and the like swallow it. */
const isClosed = (vector: string) => renderPage("t", `${vector}\n\nwhat follows\n`).includes("<p>what follows</p>");

test("the executable's own page, with its CSP, is safe with all of them together", async () => {
  const folder = join(site.directory, "documents");
  mkdirSync(folder);
  const closed = vectors.filter(isClosed);
  expect(closed.length).toBeGreaterThan(100);
  const separate = closed.map((vector, index) => `# ${index}\n\n${withCanary(vector)}\n\n`);
  writeFileSync(join(folder, "hostile.md"), `${separate.join("")}<img src=//127.0.0.1:${server.port}/canary/last>\n`);
  const parley = await site.start({ env: { DOCUMENTS_DIR: folder } });
  const json = { email: "ada@example.com", password: TEST_PASSWORD };
  const headers = { "content-type": "application/json" };
  const registered = await parley.fetch("/api/v1/auth/register", {
    method: "POST",
    headers,
    body: JSON.stringify(json),
  });
  const { access_token } = (await registered.json()) as { access_token: string };
  const get = () =>
    parley.fetch("/api/v1/documents/hostile.md", {
      headers: { authorization: `Bearer ${access_token}`, accept: "text/html" },
    });
  let policy: string | null = null;
  proxied = async () => {
    const { headers, body } = await get();
    policy = headers.get("content-security-policy");
    return new Response(body, {
      headers: { "content-type": "text/html; charset=utf-8", "content-security-policy": policy ?? "" },
    });
  };
  loads.length = 0;
  const dom = await readDom(`http://127.0.0.1:${server.port}/page`);
  expect(policy).toStartWith("default-src 'none'; style-src 'sha256-");
  expect(dom).toContain("<main>");
  expect(dom).toContain(`<h1 id="${closed.length - 1}">`);
  expect(loads).toEqual([]);
  expect((await parley.stop()).code).toBe(0);
});
