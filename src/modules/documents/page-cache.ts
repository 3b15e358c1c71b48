import { renderPage } from "./html-page.ts";
import { parseMarkdown } from "./markdown.ts";
import type { DocumentFile } from "./source.ts";

/** Rendered pages kept in memory; most are some kilobytes. */
const PAGES_MAX = 32;

/** Renders documents as pages, each content once for as long as it is asked for. */
export function createPageCache(): (file: DocumentFile) => string {
  const pages = new Map<string, string>();
  return ({ path, hash, content }) => {
    // The path too, since it may be what the title comes from.
    const key = `${hash} ${path}`;
    const page = pages.get(key) ?? renderPage(parseMarkdown(path, content).title, content);
    // Deleted and set again, so that the one asked for longest ago is the first.
    pages.delete(key);
    pages.set(key, page);
    const oldest = pages.keys().next();
    if (pages.size > PAGES_MAX && !oldest.done) pages.delete(oldest.value);
    return page;
  };
}
