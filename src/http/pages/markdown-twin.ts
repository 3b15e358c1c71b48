import { readAccept } from "../accept.ts";

/** Responses depend on these request headers wherever a page also exists as markdown. */
const TWIN_VARY = "Accept, Accept-Encoding, Origin";

/** Headers of a page as markdown. */
export const markdownHeaders = {
  "content-type": "text/markdown; charset=utf-8",
  "cache-control": "no-cache",
  vary: TWIN_VARY,
} as const;

/** Headers of a page as HTML that also exists as markdown at `markdownPath`. */
export const createTwinHeaders = (markdownPath: string, policy: string): Record<string, string> => ({
  "content-type": "text/html; charset=utf-8",
  "content-security-policy": policy,
  "cache-control": "no-cache",
  link: `<${markdownPath}>; rel="alternate"; type="text/markdown"`,
  vary: TWIN_VARY,
});

/** Browsers never name markdown. A client that names it with at least the same weight as HTML reads markdown. */
export function prefersMarkdown(request: Request): boolean {
  const ranges = readAccept(request.headers.get("accept"));
  const qualityOf = (name: string) => ranges.find(({ type }) => type === name)?.quality ?? 0;
  const markdown = qualityOf("text/markdown");
  return markdown > 0 && markdown >= qualityOf("text/html");
}
