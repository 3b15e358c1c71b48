import { escapeHtml } from "../../lib/html.ts";
import type { JsonObject } from "../../lib/json.ts";
import { createLayoutPolicy, renderSitePage } from "../pages/layout.ts";
import { pageScript } from "./page-script.ts";
import { parseAsyncApi } from "./parse-document.ts";
import { renderText } from "./render-schema.ts";
import { createPageSections, type Section } from "./render-sections.ts";

export const asyncApiPagePolicy = createLayoutPolicy(pageScript);

/** Renders an AsyncAPI document as a self-contained HTML page. Only the search needs the page's script. */
export function renderAsyncApiPage(document: JsonObject): string {
  const parts = parseAsyncApi(document);
  const sections = createPageSections(parts);
  return renderSitePage({
    title: "Parley realtime API",
    markdownPath: "/asyncapi.md",
    header: `<h1>Parley realtime API ${escapeHtml(String(parts.info.version))}</h1>
<label><span class="label">Search</span><input id="search" type="search" placeholder="Search (press /)" autocomplete="off"></label>
<span id="found" role="status"></span>
<span><a href="/asyncapi.json">JSON</a> · <a href="/asyncapi.yaml">YAML</a></span>`,
    contents: sections.map(renderContents).join("\n"),
    main: sections.map(renderSection).join("\n"),
    script: pageScript,
  });
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
