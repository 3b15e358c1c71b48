import type { RequestOrigin } from "../../src/access/caller.ts";

/** A call that came by no way of which anything is known. */
export const unknownOrigin: RequestOrigin = { ipAddress: null, onBehalfOf: null };
