import type { Fetch } from "../outgoing/create-fetch.ts";
import { formatTraceparent } from "./traceparent.ts";
import type { Tracing } from "./tracing.ts";

/** Adds the `traceparent` header to requests that are made within a span, so that the server can continue its trace. */
export const propagateTrace =
  (fetch: Fetch, tracing: Tracing): Fetch =>
  (address, init = {}) => {
    const context = tracing.getCurrentContext();
    if (!context) return fetch(address, init);
    const headers = new Headers(init.headers);
    headers.set("traceparent", formatTraceparent(context));
    return fetch(address, { ...init, headers });
  };
