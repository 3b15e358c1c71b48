/** Media ranges of an `Accept` header that are evaluated; later ones are ignored. */
const RANGES_MAX = 32;

export type MediaRange = { type: string; quality: number };

/** The media ranges of an `Accept` header with their weights, 0 to 1 (RFC 9110, section 12.5.1). Without a header, any type is accepted. */
export function readAccept(accept: string | null): MediaRange[] {
  return (accept?.trim() || "*/*").split(",", RANGES_MAX).map(readRange);
}

function readRange(text: string): MediaRange {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const weight = parameters.find((parameter) => /^q\s*=/.test(parameter));
  const quality = weight === undefined ? 1 : Number(weight.replace(/^q\s*=\s*/, ""));
  return { type, quality: quality >= 0 && quality <= 1 ? quality : 0 };
}

/** The client's weight for a media type: the most specific matching range decides; 0 means not acceptable. */
export function findQuality(mediaType: string, ranges: readonly MediaRange[]): number {
  const family = `${mediaType.slice(0, mediaType.indexOf("/"))}/*`;
  for (const wanted of [mediaType, family, "*/*"]) {
    const range = ranges.find(({ type }) => type === wanted);
    if (range) return range.quality;
  }
  return 0;
}
