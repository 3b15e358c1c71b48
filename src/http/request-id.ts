import { Elysia } from "elysia";
import { createId } from "../lib/id.ts";

/** Matches ids that are safe in log lines and headers. */
const safeId = /^[\w.-]{1,128}$/;

/** Sets the response's `X-Request-Id` to the client's own id, if it is safe, or to a new one. */
export const requestIdPlugin = new Elysia({ name: "request-id" }).onRequest(({ request, set }) => {
  const receivedId = request.headers.get("x-request-id");
  set.headers["x-request-id"] = receivedId !== null && safeId.test(receivedId) ? receivedId : createId();
});

/** Returns the request's id, which `requestIdPlugin` has set. */
export function getRequestId(set: { headers: Record<string, string | number | undefined> }): string {
  return String(set.headers["x-request-id"] ?? "");
}
