import { findQuality, readAccept } from "../../http/accept.ts";

/** The formats of a document. If a client accepts several equally, it gets the first of these. */
export const representations = ["text/markdown", "application/json", "text/html"] as const;

export type Representation = (typeof representations)[number];

/** The client's preferred format; null if the client accepts none. Without a header, the default. */
export function chooseRepresentation(accept: string | null): Representation | null {
  const ranges = readAccept(accept);
  let chosen: { representation: Representation; quality: number } | null = null;
  for (const representation of representations) {
    const quality = findQuality(representation, ranges);
    if (quality > (chosen?.quality ?? 0)) chosen = { representation, quality };
  }
  return chosen?.representation ?? null;
}
