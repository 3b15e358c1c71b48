import type { RequestOrigin } from "../../src/access/caller.ts";

/** A request with an unknown origin. */
export const unknownOrigin: RequestOrigin = { ipAddress: null, onBehalfOf: null };
