import { timingSafeEqual } from "node:crypto";
import { type Static, Type } from "@sinclair/typebox";
import { readCredential } from "../../http/authenticate.ts";
import { type Route, route } from "../../http/route.ts";
import { Problem } from "../../lib/problem.ts";
import { Version } from "./model.ts";
import type { HealthService } from "./service.ts";

const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";
const EXCLUDE_CHARS_MAX = 200;

// Accepts unknown parameters: probes may append any.
const ReadinessQuery = Type.Object(
  {
    verbose: Type.Optional(Type.String({ description: "With any value: list each check." })),
    exclude: Type.Optional(
      Type.String({ maxLength: EXCLUDE_CHARS_MAX, description: "Checks to skip, comma-separated." }),
    ),
  },
  { additionalProperties: true },
);

const text = (body: string, status: number) =>
  new Response(body, { status, headers: { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" } });

/** `/livez`, `/readyz` (and its old name `/healthz`), `/version`, `/metrics`. No authentication, except METRICS_TOKEN if set. */
export function createHealthRoutes(deps: { health: HealthService; metricsToken: string | undefined }): Route[] {
  const { health, metricsToken } = deps;
  const plain = {
    method: "GET",
    tag: "operations",
    public: true,
    ok: Type.String(),
    mediaTypes: ["text/plain"],
  } as const;
  const readiness = {
    ...plain,
    query: ReadinessQuery,
    responses: { 503: { description: "Not ready.", content: { "text/plain": { schema: { type: "string" } } } } },
    handle: async ({ query }: { query: Static<typeof ReadinessQuery> }) => {
      const exclude = query.exclude?.split(",").map((name) => name.trim()) ?? [];
      const { ready, checks } = await health.checkReadiness(exclude);
      const lines = checks.map(({ name, ok }) => `[${ok ? "+" : "-"}]${name} ${ok ? "ok" : "failed"}\n`).join("");
      const verdict = ready ? "ready\n" : "not ready\n";
      return text(query.verbose === undefined ? verdict : lines + verdict, ready ? 200 : 503);
    },
  } as const;

  return [
    route({
      ...plain,
      path: "/livez",
      operationId: "getLiveness",
      summary: "Check whether the process is alive",
      handle: () => text("alive\n", 200),
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
      summary: "What runs",
      tag: "operations",
      public: true,
      ok: Version,
      handle: () => health.getVersion(),
    }),
    route({
      ...plain,
      path: "/metrics",
      operationId: "getMetrics",
      summary: "Metrics for Prometheus",
      description: "Requires METRICS_TOKEN as bearer token if it is set.",
      problems: [401],
      handle: async ({ request }) => {
        if (metricsToken !== undefined) requireToken(request, metricsToken);
        const headers = { "content-type": METRICS_TYPE, "cache-control": "no-store" };
        return new Response(await health.exposeMetrics(), { headers });
      },
    }),
  ];
}

/** @throws Problem `unauthorized`. Compares in constant time. */
function requireToken(request: Request, expected: string): void {
  const digest = (value: string) => new Bun.CryptoHasher("sha256").update(value).digest();
  const presented = readCredential(request.headers) ?? "";
  if (!timingSafeEqual(digest(presented), digest(expected)))
    throw new Problem("unauthorized", "Authentication required: send METRICS_TOKEN as the bearer token.");
}
