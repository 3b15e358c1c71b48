import { Elysia } from "elysia";
import type { Lifecycle } from "../lib/lifecycle.ts";
import { Problem } from "../lib/problem.ts";
import { parseRequestUrl } from "./request-url.ts";

const RETRY_AFTER_MS = 1_000;
/** Matches paths that need the database. Health, metrics and pages don't. */
const gatedPath = /^\/(?:api|v1|realtime)(?:\/|$)/;

/** Creates the plugin that responds with 503 `unavailable` until the database is migrated. */
export function createStartGate(lifecycle: Lifecycle) {
  return new Elysia({ name: "start-gate" }).onRequest(({ request }) => {
    if (lifecycle.phase !== "starting" || !gatedPath.test(parseRequestUrl(request).pathname)) return;
    throw new Problem("unavailable", "Parley is starting; the database is not ready yet.", {
      retryAfterMs: RETRY_AFTER_MS,
    });
  });
}
