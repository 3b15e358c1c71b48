import { escapeHtml } from "../../lib/html.ts";
import { createPagePolicy } from "../security-headers.ts";
import { pageStyle } from "./page-style.ts";

const createCspHash = (text: string): string =>
  `'sha256-${new Bun.CryptoHasher("sha256").update(text).digest("base64")}'`;

/** Creates a policy that allows only the layout's inline style and this inline script. The page can't load other resources. */
export const createLayoutPolicy = (script?: string): string =>
  createPagePolicy({
    "default-src": "'none'",
    "style-src": createCspHash(pageStyle),
    "img-src": "data:",
    ...(script !== undefined && { "script-src": createCspHash(script) }),
  });

type SitePage = {
  title: string;
  /** Path of the page's Markdown version, if there is one. */
  markdownPath?: string;
  /** HTML of the header. Replaces the link to the guides. */
  header?: string;
  /** HTML of the table of contents. */
  contents?: string;
  /** HTML of the page's content. */
  main: string;
  script?: string;
};

const sections = [
  ["/docs", "Guides"],
  ["/swagger", "REST API"],
  ["/asyncapi", "Realtime API"],
  ["/problems", "Errors"],
] as const;

/** Renders a documentation page. It is self-contained and works without its script. */
export function renderSitePage({ title, markdownPath, header, contents, main, script }: SitePage): string {
  const links = [...sections, ...(markdownPath === undefined ? [] : [[markdownPath, "Markdown"] as const])];
  const alternateLink =
    markdownPath === undefined
      ? ""
      : `<link rel="alternate" type="text/markdown" href="${escapeHtml(markdownPath)}">\n`;
  const nav = contents
    ? `<nav aria-label="Contents"><details><summary>Contents</summary>\n${contents}\n</details></nav>\n`
    : "";
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<link rel="icon" href="data:,">
${alternateLink}<style>${pageStyle}</style>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header>
${header ?? '<a class="brand" href="/docs">Parley</a>'}
<span>${links.map(([path, name]) => `<a href="${escapeHtml(path)}">${name}</a>`).join(" · ")}</span>
</header>
<div class="layout">
${nav}<main id="main">
${main}
</main>
</div>
${script === undefined ? "" : `<script>${script}</script>\n`}</body>
</html>
`;
}
