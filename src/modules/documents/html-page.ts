import { Marked, type Token, type Tokens } from "marked";
import { escapeHtml } from "../../lib/html.ts";
import { createSlugger, formatHeading, splitFrontMatter } from "./markdown.ts";

/**
 * UTF-16 units of a document, and of one block of it, that are rendered; more is shown as it is written. The renderer
 * takes quadratic time for some texts, and everybody waits for it.
 */
export const HTML_SOURCE_CHARS_MAX = 256 * 1024;
export const HTML_BLOCK_CHARS_MAX = 16 * 1024;

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

/** Lets the page have its own style and nothing else: no script, no image, no frame, nothing from elsewhere. */
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
  const plain = () => `<pre class="plain">${escapeHtml(markdown)}</pre>\n`;
  if (markdown.length > HTML_SOURCE_CHARS_MAX || findLongestBlock(markdown) > HTML_BLOCK_CHARS_MAX) return plain();
  try {
    return render(markdown);
  } catch {
    // Nested deeper than the renderer's stack.
    return plain();
  }
}

function findLongestBlock(markdown: string): number {
  return markdown.split(/\n[ \t\r]*\n/).reduce((longest, block) => Math.max(longest, block.length), 0);
}

function render(markdown: string): string {
  const createSlug = createSlugger();
  const topHeadings = new Set<Token>();
  const marked = new Marked({
    renderer: {
      heading(token: Tokens.Heading) {
        const id = topHeadings.has(token) ? ` id="${escapeHtml(createSlug(formatHeading(token.text)))}"` : "";
        return `<h${token.depth}${id}>${this.parser.parseInline(token.tokens)}</h${token.depth}>\n`;
      },
      html(token: Tokens.HTML | Tokens.Tag) {
        const text = escapeHtml(token.text.replaceAll(/<!--.*?-->/gs, "").trim());
        return token.type === "html" && token.block && text !== "" ? `<p>${text}</p>\n` : text;
      },
      link({ href, title, tokens }: Tokens.Link) {
        const text = this.parser.parseInline(tokens);
        if (!isSafeLink(href)) return text;
        const shown = title ? ` title="${escapeAttribute(title)}"` : "";
        return `<a href="${escapeAttribute(href)}"${shown} rel="noopener noreferrer nofollow">${text}</a>`;
      },
      // The policy forbids to load it; its description is shown in its place.
      image({ text }: Tokens.Image) {
        return escapeAttribute(text);
      },
    },
  });
  const tokens = marked.lexer(markdown);
  for (const token of tokens) if (token.type === "heading") topHeadings.add(token);
  return marked.parser(tokens);
}

/** Leaves `&amp;` and the like, since the renderer hands over such texts as they are written. */
function escapeAttribute(text: string): string {
  return escapeHtml(text).replaceAll(/&amp;(?=#?\w{1,32};)/g, "&");
}

/**
 * Web and mail addresses, and places relative to this one. Browsers skip blanks and control characters in a scheme and
 * decode `&colon;`, so a relative link may have none of these characters before its first `/`, `?` or `#`.
 */
export function isSafeLink(href: string): boolean {
  return /^(?:https?:\/\/|mailto:)[^\s\p{Cc}]*$/iu.test(href) || /^[^:&\s\p{Cc}/?#]*(?:[/?#][^\p{Cc}]*)?$/u.test(href);
}
