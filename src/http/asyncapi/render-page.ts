import { escapeHtml } from "../../lib/html.ts";
import type { JsonObject } from "../../lib/json.ts";
import { createPagePolicy } from "../security-headers.ts";
import { pageScript } from "./page-script.ts";
import { pageStyle } from "./page-style.ts";
import { readAsyncApi } from "./read-document.ts";
import { renderText } from "./render-schema.ts";
import { createSections, type Section } from "./render-sections.ts";

const hash = (text: string): string => `'sha256-${new Bun.CryptoHasher("sha256").update(text).digest("base64")}'`;

/** Only this very script and style run, and nothing is loaded from anywhere. */
export const asyncApiPagePolicy = createPagePolicy({
  "default-src": "'none'",
  "script-src": hash(pageScript),
  "style-src": hash(pageStyle),
  "img-src": "data:",
});

/** An AsyncAPI document as a page that needs nothing else. Works without its script, except the search. */
export function renderAsyncApiPage(document: JsonObject): string {
  const shown = readAsyncApi(document);
  const sections = createSections(shown);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley realtime API</title>
<link rel="icon" href="data:,">
<style>${pageStyle}</style>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
<h1>Parley realtime API ${escapeHtml(String(shown.info.version))}</h1>
<label><span class="label">Search</span><input id="search" type="search" placeholder="Search (press /)" autocomplete="off"></label>
<span id="found" role="status"></span>
<span><a href="/asyncapi.json">JSON</a> · <a href="/asyncapi.yaml">YAML</a> · <a href="/swagger">REST API</a></span>
</header>
<div class="layout">
<nav aria-label="Contents"><details><summary>Contents</summary>
${sections.map(renderContents).join("\n")}
</details></nav>
<main id="main">
${sections.map(renderSection).join("\n")}
</main>
</div>
<script>${pageScript}</script>
</body>
</html>
`;
}

function renderContents({ id, title, entries }: Section): string {
  const links = entries.map((entry) => `<li>${renderLink(entry.id, entry.title)}</li>`);
  return `${renderLink(id, title)}\n<ul>\n${links.join("\n")}\n</ul>`;
}

const renderLink = (id: string, title: string): string => `<a href="#${escapeHtml(id)}">${escapeHtml(title)}</a>`;

function renderSection({ id, title, intro, entries }: Section): string {
  const articles = entries.map(
    (entry) =>
      `<article id="${escapeHtml(entry.id)}"><h3>${renderLink(entry.id, entry.title)}</h3>\n${entry.body}</article>`,
  );
  const lead = intro === "" ? "" : `<p>${renderText(intro)}</p>`;
  return `<section id="${escapeHtml(id)}"><h2>${escapeHtml(title)}</h2>${lead}\n${articles.join("\n")}\n</section>`;
}
