import { Elysia } from "elysia";
import { createId } from "../lib/id.ts";

/** The caller's id is used if it is safe in log lines and headers. */
const acceptable = /^[\w.-]{1,128}$/;

/** Sets `X-Request-Id`: the caller's own id, or a new one. It is on every response and in every log line. */
export const requestId = new Elysia({ name: "request-id" }).onRequest(({ request, set }) => {
  const received = request.headers.get("x-request-id");
  set.headers["x-request-id"] = received !== null && acceptable.test(received) ? received : createId();
});

/** The id that `requestId` gave this request. */
export function readRequestId(set: { headers: Record<string, string | number | undefined> }): string {
  return String(set.headers["x-request-id"] ?? "");
}
