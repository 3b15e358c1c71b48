import { escapeHtml } from "../../lib/html.ts";
import { nameHeadings, splitFrontMatter } from "./markdown.ts";
import { sanitizeHtml } from "./sanitize-html.ts";

/** UTF-16 units of a document that are rendered; a longer one is shown as it is written, because everybody waits meanwhile. */
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
 * Lets the page have its own style and nothing else: no script, no frame, nothing from elsewhere. Images stay in the text
 * for those who take it to a page of their own; here browsers show their descriptions.
 */
export const pagePolicy = [
  "default-src 'none'",
  `style-src 'sha256-${new Bun.CryptoHasher("sha256").update(style).digest("base64")}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

/** A document as a page of its own. Whatever is in it, the page runs nothing and loads nothing. */
export function renderPage(title: string, content: string): string {
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
  const html = markdown.length > HTML_SOURCE_CHARS_MAX ? null : render(markdown);
  return html ?? `<pre class="plain">${escapeHtml(markdown)}</pre>\n`;
}

/** @returns null for a document that would take long. */
function render(markdown: string): string | null {
  // Takes time in proportion to the length, and lets everything through that the document holds.
  const html = Bun.markdown.html(markdown, { autolinks: true, headings: { ids: true } });
  return sanitizeHtml(html, { nameHeadings: (found) => nameHeadings(markdown, found) });
}
