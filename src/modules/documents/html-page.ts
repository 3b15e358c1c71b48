import { escapeHtml } from "../../lib/html.ts";
import { createAnchors, splitFrontMatter } from "./markdown.ts";
import { sanitizeHtml } from "./sanitize-html.ts";

/**
 * Maximum length of a rendered document, in UTF-16 code units. Longer documents are shown as source, because rendering blocks the event
 * loop.
 */
export const HTML_SOURCE_CHARS_MAX = 256 * 1024;

const style = `
:root { color-scheme: light dark; }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: break-word; }
pre { padding: 0.8rem; overflow-x: auto; background: #8882; border-radius: 6px; }
pre.plain { white-space: pre-wrap; }
code { font-family: ui-monospace, monospace; font-size: 0.9em; }
table { display: block; overflow-x: auto; border-collapse: collapse; }
th, td { padding: 0.3rem 0.7rem; border: 1px solid #8886; text-align: start; vertical-align: top; }
blockquote { margin-inline: 0; padding-inline-start: 1rem; border-inline-start: 3px solid #8886; }
`;

/**
 * Allows the page only its own style: no scripts, frames or external resources. Images stay in the HTML for clients that embed it elsewhere.
 * On this page, browsers show the images' alternative text instead.
 */
export const pagePolicy = [
  "default-src 'none'",
  `style-src 'sha256-${new Bun.CryptoHasher("sha256").update(style).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** Renders a document as an HTML page, which runs no scripts and loads no resources. */
export function renderDocumentPage(title: string, content: string): string {
  return `<!doctype html>
<html>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body dir="auto">
<main>
${renderBody(splitFrontMatter(content).body)}</main>
</body>
</html>
`;
}

function renderBody(markdown: string): string {
  const html = markdown.length > HTML_SOURCE_CHARS_MAX ? null : renderMarkdown(markdown);
  return html ?? `<pre class="plain">${escapeHtml(markdown)}</pre>\n`;
}

/** Renders the document's body. @returns null if that would take too long. */
function renderMarkdown(markdown: string): string | null {
  // This takes linear time, and doesn't change HTML in the document.
  const html = Bun.markdown.html(markdown, { autolinks: true, headings: { ids: true } });
  return sanitizeHtml(html, { createAnchors: (headings) => createAnchors(markdown, headings) });
}
