import type { RequestOrigin } from "../../src/access/caller.ts";

/** The origin of a test's requests. */
export const unknownOrigin: RequestOrigin = { ipAddress: null, onBehalfOf: null };
