import { parseAccept } from "../accept.ts";

/** `Vary` for pages that also have a Markdown version. */
const VARY = "Accept, Accept-Encoding, Origin";

/** Headers of a page's Markdown version. */
export const markdownHeaders = {
  "content-type": "text/markdown; charset=utf-8",
  "cache-control": "no-cache",
  vary: VARY,
} as const;

/** Returns the headers of an HTML page that has a Markdown version. */
export const createHtmlHeaders = (markdownPath: string, policy: string): Record<string, string> => ({
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": policy,
  "cache-control": "no-cache",
  link: `<${markdownPath}>; rel="alternate"; type="text/markdown"`,
  vary: VARY,
});

/** Whether `Accept` contains Markdown with at least the weight of HTML. Browsers never send such a header. */
export function prefersMarkdown(request: Request): boolean {
  const ranges = parseAccept(request.headers.get("accept"));
  const findQuality = (name: string) => ranges.find(({ type }) => type === name)?.quality ?? 0;
  const markdown = findQuality("text/markdown");
  return markdown > 0 && markdown >= findQuality("text/html");
}
