import type { RequestOrigin } from "../../src/http/authenticate.ts";

/** A call that came by no way of which anything is known. */
export const unknownOrigin: RequestOrigin = { ipAddress: null, onBehalfOf: null };
