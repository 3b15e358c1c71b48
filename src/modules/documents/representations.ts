/** The forms in which a document can be had; where a client likes several alike, the first of them. */
export const representations = ["text/markdown", "application/json", "text/html"] as const;

export type Representation = (typeof representations)[number];

/** Media ranges of an `Accept` header that are looked at. */
const RANGES_MAX = 32;

/** What a client wants to have (RFC 9110, section 12.5.1); null when it accepts none of them. No header: anything. */
export function chooseRepresentation(accept: string | null): Representation | null {
  const ranges = (accept?.trim() || "*/*").split(",", RANGES_MAX).map(readRange);
  let chosen: { representation: Representation; quality: number } | null = null;
  for (const representation of representations) {
    const quality = findQuality(representation, ranges);
    if (quality > (chosen?.quality ?? 0)) chosen = { representation, quality };
  }
  return chosen?.representation ?? null;
}

type MediaRange = { type: string; quality: number };

function readRange(text: string): MediaRange {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => /^q\s*=/.test(parameter));
  const quality = weight === undefined ? 1 : Number(weight.replace(/^q\s*=\s*/, ""));
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** The most specific range that fits decides. */
function findQuality(representation: Representation, ranges: MediaRange[]): number {
  const family = `${representation.slice(0, representation.indexOf("/"))}/*`;
  for (const wanted of [representation, family, "*/*"]) {
    const range = ranges.find(({ type }) => type === wanted);
    if (range) return range.quality;
  }
  return 0;
}
