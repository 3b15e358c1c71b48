import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderDocumentPage } from "../../src/modules/documents/html-page.ts";
import { createInstallation, type Installation } from "../acceptance/installation.ts";
import { loadDom, openChromium } from "../support/chromium.ts";
import { TEST_PASSWORD } from "../support/client.ts";
import { xssVectors } from "./xss-vectors.ts";

setDefaultTimeout(120_000);

/** The script of a page with a frame for each vector. It triggers events in the frames, and reports which vectors ran. */
const harnessScript = `
const hits = new Set();
const triggerEvents = (frame) => {
  const { body } = frame.contentDocument ?? {};
  if (!body) return;
  for (const element of body.querySelectorAll("*")) {
    for (const type of ["mouseover", "pointerover", "focus", "wheel"]) element.dispatchEvent(new Event(type, { bubbles: true }));
    if (element.href && !/^(?:https?|mailto):/.test(element.protocol ?? "")) element.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  }
};
addEventListener("load", async () => {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const frames = [...document.querySelectorAll("iframe")];
  await wait(1500);
  for (const frame of frames) try { triggerEvents(frame); } catch {}
  await wait(500);
  // Some vectors take effect only when they are serialized and parsed again.
  for (const frame of frames) try { frame.contentDocument.body.innerHTML += ""; } catch {}
  await wait(1500);
  await fetch("/report", { method: "POST", body: JSON.stringify([...hits]) });
});
function hit(index) { hits.add(index); }
`;

let report: PromiseWithResolvers<number[]>;
const loads: string[] = [];
let pages: Record<string, string> = {};
let fetchDocumentPage: (() => Promise<Response>) | undefined;
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/report") report.resolve((await request.json()) as number[]);
    else if (pathname.startsWith("/canary/")) loads.push(pathname);
    else if (pathname === "/page" && fetchDocumentPage) return fetchDocumentPage();
    else if (pages[pathname])
      return new Response(pages[pathname], { headers: { "content-type": "text/html; charset=utf-8" } });
    return new Response();
  },
});
afterAll(() => server.stop(true));

const insertCanaryUrl = (vector: string) => vector.replaceAll("canary.test", `127.0.0.1:${server.port}/canary`);

/** Creates a page with a frame for each body. The sandbox has no `allow-modals`, so no dialog can block the page. */
function createHarness(bodies: string[]): string {
  const frames = bodies.map((body, index) => {
    const head = `<!doctype html><script>alert = prompt = () => parent.hit(${index})</script><body>`;
    return `<iframe sandbox="allow-scripts allow-same-origin allow-forms allow-popups" srcdoc="${(head + body).replaceAll("&", "&amp;").replaceAll('"', "&quot;")}"></iframe>`;
  });
  return `<!doctype html><meta charset=utf-8><script>${harnessScript}</script>${frames.join("\n")}`;
}

/** Opens a page with a frame for each body. @returns the indexes of the bodies that ran a script, and the loaded paths. */
async function openInChromium(bodies: string[]): Promise<{ hits: number[]; loads: string[] }> {
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

test("Chromium runs scripts and loads resources from unsanitized vectors", async () => {
  const { hits, loads } = await openInChromium(xssVectors.map((vector) => Bun.markdown.html(insertCanaryUrl(vector))));
  expect(hits.length).toBeGreaterThan(100);
  expect(loads.length).toBeGreaterThan(5);
});

test("Chromium runs no scripts and loads no resources from rendered documents", async () => {
  const bodies = xssVectors.map(
    (vector) => /<main>(.*)<\/main>/s.exec(renderDocumentPage("t", insertCanaryUrl(vector)))?.[1] ?? "",
  );
  expect(bodies.filter((body) => body.trim() !== "").length).toBeGreaterThan(200);
  const { hits, loads } = await openInChromium(bodies);
  expect({ hits: hits.map((index) => xssVectors[index]), loads }).toEqual({ hits: [], loads: [] });
});

let installation: Installation;
beforeAll(async () => {
  installation = await createInstallation();
});
afterAll(() => installation.remove());

/** Returns whether a paragraph after the vector is still a paragraph. An unclosed comment or `<textarea>` would contain it. */
const isClosed = (vector: string) => renderDocumentPage("t", `${vector}\n\nnext one\n`).includes("<p>next one</p>");

test("a page with all vectors loads nothing when the executable serves it", async () => {
  const folder = join(installation.directory, "documents");
  mkdirSync(folder);
  const closedVectors = xssVectors.filter(isClosed);
  expect(closedVectors.length).toBeGreaterThan(100);
  const sections = closedVectors.map((vector, index) => `# ${index}\n\n${insertCanaryUrl(vector)}\n\n`);
  writeFileSync(join(folder, "hostile.md"), `${sections.join("")}<img src=//127.0.0.1:${server.port}/canary/last>\n`);
  const parley = await installation.start({ env: { DOCUMENTS_DIR: folder } });
  const json = { email: "ada@example.com", password: TEST_PASSWORD };
  const headers = { "content-type": "application/json" };
  const registrationResponse = await parley.fetch("/api/v1/auth/register", {
    method: "POST",
    headers,
    body: JSON.stringify(json),
  });
  const { access_token } = (await registrationResponse.json()) as { access_token: string };
  const fetchHostileDocument = () =>
    parley.fetch("/api/v1/documents/hostile.md", {
      headers: { authorization: `Bearer ${access_token}`, accept: "text/html" },
    });
  let policy: string | null = null;
  fetchDocumentPage = async () => {
    const { headers, body } = await fetchHostileDocument();
    policy = headers.get("content-security-policy");
    return new Response(body, {
      headers: { "content-type": "text/html; charset=utf-8", "content-security-policy": policy ?? "" },
    });
  };
  loads.length = 0;
  const dom = await loadDom(`http://127.0.0.1:${server.port}/page`);
  expect(policy).toStartWith("default-src 'none'; style-src 'sha256-");
  expect(dom).toContain("<main>");
  expect(dom).toContain(`<h1 id="${closedVectors.length - 1}">`);
  expect(loads).toEqual([]);
  expect((await parley.stop()).code).toBe(0);
});
