import { BoundedCache } from "../../cache/bounded-cache.ts";
import { renderDocumentPage } from "./html-page.ts";
import { parseMarkdown } from "./markdown.ts";
import type { DocumentFile } from "./source.ts";

/** The size of the cache of rendered pages. Most take a few kilobytes. A page larger than the cache is rendered each time. */
const PAGES_BYTES_MAX = 4 * 1024 * 1024;
/** The maximum number of bytes per UTF-16 unit in memory. */
const BYTES_PER_CHAR = 2;

/** Creates a function that renders documents as HTML pages and caches them by content. */
export function createPageRenderer(): (file: DocumentFile) => string {
  const pages = new BoundedCache<string>({
    maxSize: PAGES_BYTES_MAX,
    getSizeBytes: (page) => BYTES_PER_CHAR * page.length,
  });
  return ({ path, hash, content }) => {
    // The path is part of the key, because the title may come from it.
    const key = `${hash} ${path}`;
    const cached = pages.get(key);
    if (cached !== undefined) return cached;
    const page = renderDocumentPage(parseMarkdown(path, content).title, content);
    pages.set(key, page);
    return page;
  };
}
