import { findQuality, readAccept } from "../../http/accept.ts";

/** The forms in which a document can be had; where a client likes several alike, the first of them. */
export const representations = ["text/markdown", "application/json", "text/html"] as const;

export type Representation = (typeof representations)[number];

/** What a client wants to have; null when it accepts none of them. No header: anything. */
export function chooseRepresentation(accept: string | null): Representation | null {
  const ranges = readAccept(accept);
  let chosen: { representation: Representation; quality: number } | null = null;
  for (const representation of representations) {
    const quality = findQuality(representation, ranges);
    if (quality > (chosen?.quality ?? 0)) chosen = { representation, quality };
  }
  return chosen?.representation ?? null;
}
