import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;
let account: Account;

beforeAll(async () => {
  parley = await startApp({ config: { PUBLIC_URL: "https://chat.example.com" } });
  account = await parley.register();
});
afterAll(() => parley.stop());

/** Expects the security headers that every response must have. */
function expectSecurityHeaders({ headers }: Response, name: string): void {
  const allHeaders = Object.fromEntries(headers);
  expect({ name, ...allHeaders }).toMatchObject({
    name,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "content-security-policy": expect.stringContaining("frame-ancestors 'none'"),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": expect.stringContaining("microphone=()"),
    "strict-transport-security": "max-age=31536000",
    "cache-control": expect.stringMatching(/./),
    "x-request-id": expect.stringMatching(/./),
    vary: expect.stringContaining("Origin"),
  });
  expect(allHeaders.server ?? allHeaders["x-powered-by"] ?? allHeaders["set-cookie"]).toBeUndefined();
}

type OpenApi = { paths: Record<string, Record<string, unknown>> };

async function listRoutes(): Promise<{ method: string; path: string }[]> {
  const { paths } = (await (await parley.fetch("/swagger/json")).json()) as OpenApi;
  return Object.entries(paths).flatMap(([template, operations]) =>
    Object.keys(operations).map((method) => ({
      method: method.toUpperCase(),
      path: template.replaceAll(/\{[^}]+\}/g, createId()),
    })),
  );
}

describe("every documented route", () => {
  test("returns the security headers for any credentials and input, and forbids caching its data", async () => {
    const routes = await listRoutes();
    expect(routes.length).toBeGreaterThan(50);
    const { access_token } = await parley.register();
    let responseCount = 0;
    for (const { method, path } of routes)
      for (const token of [undefined, "invalid.access.token", access_token])
        for (const accept of ["application/json", "text/event-stream"]) {
          // This request would revoke the session that the other requests use.
          if (method === "DELETE" && path === "/api/v1/me" && token === access_token) continue;
          const name = `${method} ${path}`;
          const response = await parley.fetch(path, {
            method,
            ...(token !== undefined && { token }),
            headers: { accept },
            ...(method !== "GET" && { json: {} }),
          });
          await response.body?.cancel();
          expectSecurityHeaders(response, name);
          if (path.startsWith("/api/") || path.startsWith("/v1/"))
            expect({ name, cached: response.headers.get("cache-control") }).toEqual({
              name,
              cached: expect.stringMatching(/^(no-store|private, no-cache)$/),
            });
          responseCount += 1;
        }
    expect(responseCount).toBeGreaterThan(300);
  });
});

describe("the security headers are in", () => {
  const conversationsPath = "/api/v1/conversations";
  const responseKinds: { kind: string; path: string; status: number; init?: Parameters<TestApp["fetch"]>[1] }[] = [
    { kind: "a page", path: "/swagger", status: 200 },
    { kind: "a script", path: "/swagger/json", status: 200 },
    { kind: "text", path: "/livez", status: 200 },
    { kind: "a problem's page", path: "/problems/invalid", status: 200 },
    { kind: "a response for an unknown path", path: "/nothing", status: 404 },
    { kind: "a response to an unsupported method", path: "/version", status: 405, init: { method: "DELETE" } },
    { kind: "a response to HEAD", path: "/version", status: 200, init: { method: "HEAD" } },
    { kind: "a response to HEAD for an unknown path", path: "/nothing", status: 404, init: { method: "HEAD" } },
    { kind: "a response without credentials", path: "/api/v1/me", status: 401 },
    { kind: "a response without credentials, in OpenAI's format", path: "/v1/models", status: 401 },
    { kind: "a response to an invalid upgrade", path: "/realtime", status: 400 },
    {
      kind: "a response to a preflight request",
      path: conversationsPath,
      status: 204,
      init: { method: "OPTIONS", headers: { origin: "https://x.example", "access-control-request-method": "POST" } },
    },
    {
      kind: "a response to an oversized body",
      path: "/api/v1/auth/login",
      status: 413,
      init: { json: "x".repeat(1_100_000) },
    },
    {
      kind: "a response to an unsupported content type",
      path: "/api/v1/auth/login",
      status: 415,
      init: { json: {}, headers: { "content-type": "text/xml" } },
    },
  ];
  test.each(responseKinds)("$kind with status $status", async ({ kind, path, status, init }) => {
    const response = await parley.fetch(path, init);
    expect(response.status).toBe(status);
    expectSecurityHeaders(response, kind);
  });

  test("a 304 response", async () => {
    const token = account.access_token;
    const etag = (await parley.fetch("/api/v1/documents", { token })).headers.get("etag") ?? "none";
    const response = await parley.fetch("/api/v1/documents", { token, headers: { "if-none-match": etag } });
    expect(response.status).toBe(304);
    expectSecurityHeaders(response, "304");
  });

  test("an event stream", async () => {
    const token = account.access_token;
    const { id } = (await (await parley.fetch(conversationsPath, { token, json: {} })).json()) as { id: string };
    const response = await parley.fetch(`${conversationsPath}/${id}/events`, {
      token,
      headers: { accept: "text/event-stream" },
    });
    expect(response.headers.get("content-type")).toStartWith("text/event-stream");
    expectSecurityHeaders(response, "an event stream");
    await response.body?.cancel();
  });

  test("a 503 response", async () => {
    const drainingApp = await startApp({ config: { PUBLIC_URL: "https://chat.example.com" } });
    drainingApp.lifecycle.markDraining();
    const response = await drainingApp.fetch("/readyz");
    expect(response.status).toBe(503);
    expectSecurityHeaders(response, "503");
    await drainingApp.stop();
  });
});

describe("Strict-Transport-Security", () => {
  test.each<Record<string, string>>([{}, { PUBLIC_URL: "http://chat.example.com" }])(
    "isn't sent without TLS (%p)",
    async (config) => {
      const appWithoutTls = await startApp({ config });
      expect((await appWithoutTls.fetch("/version")).headers.get("strict-transport-security")).toBeNull();
      await appWithoutTls.stop();
    },
  );
});
