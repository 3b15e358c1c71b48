import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp({
    config: { CORS_ORIGINS: "https://app.example.com", PUBLIC_URL: "https://chat.example.com/x" },
  });
});
afterAll(() => parley.stop());

/** Paths whose responses are created by different code. */
const paths = ["/version", "/problems/invalid", "/livez", "/swagger", "/swagger/json", "/nothing", "/api/v1/me"];

describe("X-Request-Id", () => {
  test.each(paths)("is in the response to a request for %s", async (path) => {
    const response = await parley.fetch(path);
    expect(response.headers.get("x-request-id")).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/);
  });

  test("has the value that the caller sent", async () => {
    const id = `trace_1.2-${"x".repeat(118)}`;
    const response = await parley.fetch("/livez", { headers: { "x-request-id": id } });
    expect(response.headers.get("x-request-id")).toBe(id);
  });

  test.each(["a b", "x".repeat(129), 'a"b', "a/b"])(
    "is replaced if the caller sent the invalid value %s",
    async (id) => {
      const response = await parley.fetch("/livez", { headers: { "x-request-id": id } });
      expect(response.headers.get("x-request-id")).not.toBe(id);
      expect(response.headers.get("x-request-id")).toBeTruthy();
    },
  );
});

describe("the content security policy", () => {
  test("allows nothing in a JSON response", async () => {
    const { headers } = await parley.fetch("/version");
    expect(headers.get("content-security-policy")).toBe("default-src 'none'; frame-ancestors 'none'");
  });

  test("allows only the page's own origin in the API docs page", async () => {
    const policy = (await parley.fetch("/swagger")).headers.get("content-security-policy") ?? "";
    expect(policy).toContain("script-src 'self';");
    expect(policy).toContain("connect-src 'self'");
    expect(policy).not.toMatch(/https?:/);
  });
});

describe("CORS", () => {
  const sendPreflight = (origin: string) =>
    parley.fetch("/api/v1/conversations", {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization" },
    });

  test.each(["https://app.example.com", "https://chat.example.com"])("allows %s", async (origin) => {
    const preflightResponse = await sendPreflight(origin);
    expect(preflightResponse.status).toBe(204);
    expect(preflightResponse.headers.get("access-control-allow-origin")).toBe(origin);
    expect(preflightResponse.headers.get("access-control-allow-methods")).toContain("PATCH");
    expect(preflightResponse.headers.get("access-control-allow-headers")).toContain("Authorization");
    expect(preflightResponse.headers.get("vary")).toContain("Origin");

    const response = await parley.fetch("/version", { headers: { origin } });
    expect(response.headers.get("access-control-allow-origin")).toBe(origin);
    for (const name of [
      "Link",
      "RateLimit",
      "RateLimit-Policy",
      "X-Request-Id",
      "ETag",
      "Idempotent-Replayed",
      "Retry-After",
    ])
      expect(response.headers.get("access-control-expose-headers")?.split(", ")).toContain(name);
  });

  test("allows errors to be read across origins", async () => {
    const response = await parley.fetch("/api/v1/me", { headers: { origin: "https://app.example.com" } });
    expect(response.status).toBe(401);
    expect(response.headers.get("access-control-allow-origin")).toBe("https://app.example.com");
  });

  test.each([
    "https://evil.example.com",
    "http://app.example.com",
    "https://app.example.com.evil.org",
    "https://app.example.com:444",
    "null",
  ])("doesn't allow %s", async (origin) => {
    for (const response of [await sendPreflight(origin), await parley.fetch("/version", { headers: { origin } })]) {
      expect(response.headers.get("access-control-allow-origin")).toBeNull();
      expect(response.headers.get("access-control-allow-credentials")).toBeNull();
    }
  });
});
