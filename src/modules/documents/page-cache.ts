import { BoundedCache } from "../../cache/bounded-cache.ts";
import { renderPage } from "./html-page.ts";
import { parseMarkdown } from "./markdown.ts";
import type { DocumentFile } from "./source.ts";

/** Rendered pages kept in memory. Most have some kilobytes; a page that is larger than all of this is rendered each time. */
const PAGES_BYTES_MAX = 4 * 1024 * 1024;
/** At most so many bytes has a UTF-16 unit in memory. */
const BYTES_PER_CHAR = 2;

/** Renders documents as pages, each content once for as long as it is asked for. */
export function createPageCache(): (file: DocumentFile) => string {
  const pages = new BoundedCache<string>({ max: PAGES_BYTES_MAX, bytesOf: (page) => BYTES_PER_CHAR * page.length });
  return ({ path, hash, content }) => {
    // The path too, since it may be what the title comes from.
    const key = `${hash} ${path}`;
    const known = pages.get(key);
    if (known !== undefined) return known;
    const page = renderPage(parseMarkdown(path, content).title, content);
    pages.set(key, page);
    return page;
  };
}
