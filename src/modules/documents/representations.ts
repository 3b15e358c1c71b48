import { findQuality, parseAccept } from "../../http/accept.ts";

/** The formats of a document, in order of preference if a client accepts several equally. */
export const representations = ["text/markdown", "application/json", "text/html"] as const;

export type Representation = (typeof representations)[number];

/** Returns the client's preferred format, or null if it accepts none. Without a header, returns the default. */
export function chooseRepresentation(accept: string | null): Representation | null {
  const ranges = parseAccept(accept);
  let best: { representation: Representation; quality: number } | null = null;
  for (const representation of representations) {
    const quality = findQuality(representation, ranges);
    if (quality > (best?.quality ?? 0)) best = { representation, quality };
  }
  return best?.representation ?? null;
}
