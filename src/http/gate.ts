import { Elysia } from "elysia";
import type { Lifecycle } from "../lib/lifecycle.ts";
import { Problem } from "../lib/problem.ts";
import { readUrl } from "./request-url.ts";

const RETRY_AFTER_MS = 1_000;
/** Routes that need the database. Health, metrics and pages are served from the start. */
const gated = /^\/(?:api|v1|realtime)(?:\/|$)/;

/** Returns 503 `unavailable` until the database is migrated; listening early shows that the process is alive. */
export function createStartGate(lifecycle: Lifecycle) {
  return new Elysia({ name: "start-gate" }).onRequest(({ request }) => {
    if (lifecycle.phase !== "starting" || !gated.test(readUrl(request).pathname)) return;
    throw new Problem("unavailable", "Parley is starting; the database is not ready yet.", {
      retryAfterMs: RETRY_AFTER_MS,
    });
  });
}
