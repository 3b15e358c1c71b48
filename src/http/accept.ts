/** Maximum number of media ranges in an `Accept` header. Later ones are ignored. */
const RANGES_MAX = 32;

export type MediaRange = { type: string; quality: number };

/** Parses an `Accept` header into media ranges with weights from 0 to 1 (RFC 9110, section 12.5.1). Null means any type. */
export function parseAccept(accept: string | null): MediaRange[] {
  return (accept?.trim() || "*/*").split(",", RANGES_MAX).map(parseRange);
}

function parseRange(text: string): MediaRange {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => /^q\s*=/.test(parameter));
  const quality = weight === undefined ? 1 : Number(weight.replace(/^q\s*=\s*/, ""));
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** Returns a media type's weight from the most specific matching range, or 0 if it isn't acceptable. */
export function findQuality(mediaType: string, ranges: readonly MediaRange[]): number {
  const typeWildcard = `${mediaType.slice(0, mediaType.indexOf("/"))}/*`;
  for (const pattern of [mediaType, typeWildcard, "*/*"]) {
    const range = ranges.find(({ type }) => type === pattern);
    if (range) return range.quality;
  }
  return 0;
}
