import { Elysia } from "elysia";
import { createId } from "../lib/id.ts";

/** Matches ids that are safe in log lines and headers. */
const safeId = /^[\w.-]{1,128}$/;

/** Sets the response's `X-Request-Id` to the client's own id, if it is safe, or to a new one. */
export const requestId = new Elysia({ name: "request-id" }).onRequest(({ request, set }) => {
  const received = request.headers.get("x-request-id");
  set.headers["x-request-id"] = received !== null && safeId.test(received) ? received : createId();
});

/** Returns the request's id, which `requestId` has set. */
export function readRequestId(set: { headers: Record<string, string | number | undefined> }): string {
  return String(set.headers["x-request-id"] ?? "");
}
