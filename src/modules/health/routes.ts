import { timingSafeEqual } from "node:crypto";
import { type Static, Type } from "@sinclair/typebox";
import { getCredential } from "../../http/authenticate.ts";
import { type Route, route } from "../../http/route.ts";
import { Problem } from "../../lib/problem.ts";
import { Version } from "./model.ts";
import type { HealthService } from "./service.ts";

const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";
const EXCLUDE_CHARS_MAX = 200;

// Accepts unknown parameters, because probes may add their own.
const ReadinessQuery = Type.Object(
  {
    verbose: Type.Optional(Type.String({ description: "With any value, the response lists each check." })),
    exclude: Type.Optional(
      Type.String({ maxLength: EXCLUDE_CHARS_MAX, description: "Checks to skip, comma-separated." }),
    ),
  },
  { additionalProperties: true },
);

const createTextResponse = (body: string, status: number) =>
  new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" } });

/**
 * Creates the routes `/livez`, `/readyz` (and its old name `/healthz`), `/version` and `/metrics`. They need no authentication, except
 * `/metrics` if METRICS_TOKEN is set.
 */
export function createHealthRoutes(deps: { health: HealthService; metricsToken: string | undefined }): Route[] {
  const { health, metricsToken } = deps;
  const sharedOptions = {
    method: "GET",
    tag: "operations",
    public: true,
    ok: Type.String(),
    mediaTypes: ["text/plain"],
  } as const;
  const readiness = {
    ...sharedOptions,
    query: ReadinessQuery,
    responses: { 503: { description: "Not ready.", content: { "text/plain": { schema: { type: "string" } } } } },
    handle: async ({ query }: { query: Static<typeof ReadinessQuery> }) => {
      const exclude = query.exclude?.split(",").map((name) => name.trim()) ?? [];
      const { ready, checks } = await health.checkReadiness(exclude);
      const lines = checks.map(({ name, ok }) => `[${ok ? "+" : "-"}]${name} ${ok ? "ok" : "failed"}\n`).join("");
      const statusLine = ready ? "ready\n" : "not ready\n";
      return createTextResponse(query.verbose === undefined ? statusLine : lines + statusLine, ready ? 200 : 503);
    },
  } as const;

  return [
    route({
      ...sharedOptions,
      path: "/livez",
      operationId: "getLiveness",
      summary: "Check whether the process is alive",
      handle: () => createTextResponse("alive\n", 200),
    }),
    route({
      ...readiness,
      path: "/readyz",
      operationId: "getReadiness",
      summary: "Check whether this instance should get traffic",
    }),
    route({ ...readiness, path: "/healthz", operationId: "getHealth", summary: "Old name of /readyz" }),
    route({
      method: "GET",
      path: "/version",
      operationId: "getVersion",
      summary: "Get the versions of this instance",
      tag: "operations",
      public: true,
      ok: Version,
      handle: () => health.getVersion(),
    }),
    route({
      ...sharedOptions,
      path: "/metrics",
      operationId: "getMetrics",
      summary: "Get metrics for Prometheus",
      description: "If METRICS_TOKEN is set, it is required as the bearer token.",
      problems: [401],
      handle: async ({ request }) => {
        if (metricsToken !== undefined) requireToken(request, metricsToken);
        const headers = { "content-type": METRICS_TYPE, "cache-control": "no-store" };
        return new Response(await health.renderMetrics(), { headers });
      },
    }),
  ];
}

/** Compares the tokens in constant time. @throws Problem `unauthorized`. */
function requireToken(request: Request, expected: string): void {
  const digest = (value: string) => new Bun.CryptoHasher("sha256").update(value).digest();
  const presented = getCredential(request.headers) ?? "";
  if (!timingSafeEqual(digest(presented), digest(expected)))
    throw new Problem("unauthorized", "Authentication required: send METRICS_TOKEN as the bearer token.");
}
