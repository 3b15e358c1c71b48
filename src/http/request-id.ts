import { Elysia } from "elysia";
import { createId } from "../lib/id.ts";

/** Ids of callers are taken over when they can do no harm in a log line or a header. */
const acceptable = /^[\w.-]{1,128}$/;

/** Names every request in `X-Request-Id`: the caller's own id, or a new one. It is on every answer and in every log line. */
export const requestId = new Elysia({ name: "request-id" }).onRequest(({ request, set }) => {
  const given = request.headers.get("x-request-id");
  set.headers["x-request-id"] = given !== null && acceptable.test(given) ? given : createId();
});

/** The id that `requestId` gave to the request of this context. */
export function readRequestId(set: { headers: Record<string, string | number | undefined> }): string {
  return String(set.headers["x-request-id"] ?? "");
}
