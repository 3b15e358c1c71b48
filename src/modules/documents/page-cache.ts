import { BoundedCache } from "../../cache/bounded-cache.ts";
import { renderPage } from "./html-page.ts";
import { parseMarkdown } from "./markdown.ts";
import type { DocumentFile } from "./source.ts";

/** Cache size for rendered pages. Most take a few kilobytes; a page larger than the cache is rendered each time. */
const PAGES_BYTES_MAX = 4 * 1024 * 1024;
/** The maximum bytes per UTF-16 unit in memory. */
const BYTES_PER_CHAR = 2;

/** Renders documents as HTML pages and caches them by content. */
export function createPageCache(): (file: DocumentFile) => string {
  const pages = new BoundedCache<string>({ max: PAGES_BYTES_MAX, bytesOf: (page) => BYTES_PER_CHAR * page.length });
  return ({ path, hash, content }) => {
    // The path is part of the key, since the title may come from it.
    const key = `${hash} ${path}`;
    const known = pages.get(key);
    if (known !== undefined) return known;
    const page = renderPage(parseMarkdown(path, content).title, content);
    pages.set(key, page);
    return page;
  };
}
