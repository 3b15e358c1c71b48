import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { loadConfig } from "../../src/config.ts";
import { createOriginPolicy } from "../../src/http/origin.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { sendRaw } from "../support/send-raw.ts";

type Settings = Parameters<typeof createOriginPolicy>[0];

const baseSettings: Settings = { APP_ENV: "production" as const, CORS_ORIGINS: [] };
const createRequest = (host = "chat.example.com") => new Request(`http://${host}/`, { headers: { host } });

type Scenario = { name: string; settings?: Partial<Settings>; origin: string; host?: string; isAllowed: boolean };

const developmentSettings = { APP_ENV: "development" as const };
const publicUrlSettings = { PUBLIC_URL: "https://chat.example.com/x" };
const configuredOrigins = { CORS_ORIGINS: ["https://app.example.com", "http://other.example:8080"] };
const scenarios: Scenario[] = [
  { name: "an unknown origin", origin: "https://evil.example", isAllowed: false },
  { name: "null", origin: "null", isAllowed: false },
  { name: "null in development", settings: developmentSettings, origin: "null", isAllowed: false },
  { name: "an invalid origin", origin: "x", isAllowed: false },
  { name: "an empty origin", origin: "", isAllowed: false },
  { name: "a configured origin", settings: configuredOrigins, origin: "https://app.example.com", isAllowed: true },
  {
    name: "a configured origin with its port",
    settings: configuredOrigins,
    origin: "http://other.example:8080",
    isAllowed: true,
  },
  {
    name: "a configured origin with a different scheme",
    settings: configuredOrigins,
    origin: "http://app.example.com",
    isAllowed: false,
  },
  {
    name: "a configured origin with a different port",
    settings: configuredOrigins,
    origin: "https://app.example.com:8443",
    isAllowed: false,
  },
  {
    name: "a subdomain of a configured origin",
    settings: configuredOrigins,
    origin: "https://x.app.example.com",
    isAllowed: false,
  },
  {
    name: "an origin that starts with a configured origin",
    settings: configuredOrigins,
    origin: "https://app.example.com.evil.example",
    isAllowed: false,
  },
  {
    name: "a configured origin with a path",
    settings: configuredOrigins,
    origin: "https://app.example.com/x",
    isAllowed: false,
  },
  {
    name: "the origin of PUBLIC_URL",
    settings: publicUrlSettings,
    origin: "https://chat.example.com",
    host: "10.0.0.1",
    isAllowed: true,
  },
  {
    name: "the origin of PUBLIC_URL without TLS",
    settings: publicUrlSettings,
    origin: "http://chat.example.com",
    isAllowed: false,
  },
  { name: "the requested host", origin: "https://chat.example.com", isAllowed: true },
  {
    name: "the requested host if PUBLIC_URL has a different host",
    settings: publicUrlSettings,
    origin: "http://10.0.0.1:3000",
    host: "10.0.0.1:3000",
    isAllowed: true,
  },
  { name: "the requested host with a different port", origin: "https://chat.example.com:8443", isAllowed: false },
  {
    name: "the requested host if TLS is enabled",
    settings: { TLS_CERT_FILE: "x" },
    origin: "https://chat.example.com",
    isAllowed: true,
  },
  {
    name: "the requested host over plain HTTP if TLS is enabled",
    settings: { TLS_CERT_FILE: "x" },
    origin: "http://chat.example.com",
    isAllowed: false,
  },
  { name: "localhost", origin: "http://localhost:5173", isAllowed: false },
  {
    name: "localhost in staging",
    settings: { APP_ENV: "staging" as const },
    origin: "http://localhost:5173",
    isAllowed: false,
  },
  ...[
    "http://localhost:5173",
    "http://localhost",
    "https://localhost:8443",
    "http://127.0.0.1:5173",
    "http://[::1]:5173",
    "http://app.localhost:5173",
  ].map((origin) => ({ name: `${origin} in development`, settings: developmentSettings, origin, isAllowed: true })),
  ...[
    "http://localhost.evil.example",
    "http://localhost:5173.evil.example",
    "http://127.0.0.1.evil.example",
    "http://192.168.1.7:5173",
    "http://evil.example:5173",
    "http://localhost:x",
  ].map((origin) => ({ name: `${origin} in development`, settings: developmentSettings, origin, isAllowed: false })),
  {
    name: "localhost in development if other origins are configured",
    settings: { ...developmentSettings, ...configuredOrigins },
    origin: "http://localhost:5173",
    isAllowed: false,
  },
];

test.each(scenarios)("for $name, the policy returns $isAllowed", ({ settings, origin, host, isAllowed }) => {
  expect(createOriginPolicy({ ...baseSettings, ...settings })(origin, createRequest(host))).toBe(isAllowed);
});

test.each([
  "*",
  "https://*",
  "https://*.example.com",
  "app.example.com",
  "https://app.example.com/",
  "https://user@app.example.com",
  "https://a.example?x",
  "null",
  "ftp://a.example",
])("CORS_ORIGINS=%s is rejected", (CORS_ORIGINS) => {
  expect(() => loadConfig({ CORS_ORIGINS }, () => "")).toThrow(/^CORS_ORIGINS: /);
});

describe("the origin policy for HTTP and WebSocket requests", () => {
  let parley: TestApp;
  let token: string;
  beforeAll(async () => {
    parley = await startApp({ config: { CORS_ORIGINS: "https://app.example.com" } });
    token = (await parley.register()).access_token;
  });
  afterAll(() => parley.stop());

  const requestUpgrade = (origin: string | null) =>
    sendRaw(
      parley.url,
      [
        "GET /realtime HTTP/1.1",
        `Host: ${new URL(parley.url).host}`,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        `Authorization: Bearer ${token}`,
        ...(origin === null ? [] : [`Origin: ${origin}`]),
        "\r\n",
      ].join("\r\n"),
    );

  test.each(["https://evil.example", "null", "http://localhost:5173", "https://app.example.com.evil.example"])(
    "rejects %s",
    async (origin) => {
      const response = await requestUpgrade(origin);
      expect(response.status).toBe(403);
      expect(JSON.parse(response.body)).toMatchObject({ code: "forbidden" });
      const { headers } = await parley.fetch("/version", { headers: { origin } });
      expect(headers.get("access-control-allow-origin")).toBeNull();
      expect(headers.get("access-control-allow-credentials")).toBeNull();
    },
  );

  test.each(["https://app.example.com", null])("accepts %p", async (origin) => {
    expect((await requestUpgrade(origin)).status).toBe(101);
  });

  test("accepts Parley's own origin", async () => {
    expect((await requestUpgrade(parley.url)).status).toBe(101);
  });

  test("accepts localhost in development", async () => {
    const developmentApp = await startApp();
    const origin = "http://localhost:5173";
    const preflight = await developmentApp.fetch("/api/v1/conversations", {
      method: "OPTIONS",
      headers: {
        origin,
        "access-control-request-method": "PATCH",
        "access-control-request-headers": "idempotency-key",
      },
    });
    expect(preflight.headers.get("access-control-allow-origin")).toBe(origin);
    expect(preflight.headers.get("access-control-allow-headers")).toContain("Idempotency-Key");
    expect(preflight.headers.get("access-control-allow-credentials")).toBeNull();
    await developmentApp.stop();
  });
});
