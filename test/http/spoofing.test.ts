import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { sendRaw } from "../support/send-raw.ts";

const FORGED_HOST = "evil.example";
const forgedHeaders = [
  `Host: ${FORGED_HOST}`,
  `X-Forwarded-Host: ${FORGED_HOST}`,
  "X-Forwarded-Proto: https",
  `X-Forwarded-Port: 61616`,
  `X-Forwarded-Prefix: /${FORGED_HOST}`,
  `X-Original-URL: /api/v1/me`,
  `X-Rewrite-URL: /api/v1/me`,
  `X-HTTP-Method-Override: DELETE`,
  `Forwarded: for=6.6.6.6;host=${FORGED_HOST};proto=https`,
  "Connection: close",
].join("\r\n");

let parley: TestApp;
let token: string;
let appWithTrustedProxy: TestApp;
beforeAll(async () => {
  parley = await startApp({ config: { PUBLIC_URL: "https://chat.example.com" } });
  appWithTrustedProxy = await startApp({ config: { TRUSTED_PROXIES: "127.0.0.0/8" } });
  token = (await parley.register()).access_token;
});
afterAll(async () => {
  await parley.stop();
  await appWithTrustedProxy.stop();
});

describe("forged Host and forwarding headers", () => {
  const sendWithForgedHeaders = (method: string, path: string, body = "") =>
    sendRaw(
      parley.url,
      `${method} ${path} HTTP/1.1\r\n${forgedHeaders}\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );

  test.each([
    ["POST", "/api/v1/conversations", "{}"],
    ["GET", "/api/v1/conversations?limit=1", ""],
    ["GET", "/api/v1/documents?limit=1", ""],
    ["GET", "/api/v1/documents/rest.md", ""],
    ["GET", "/api/v1/me", ""],
    ["GET", "/swagger", ""],
    ["GET", "/swagger/json", ""],
    ["GET", "/problems/invalid", ""],
    ["GET", "/nothing", ""],
    ["GET", "/version", ""],
  ])("don't appear in the response to %s %s", async (method, path, body) => {
    // The list has a second page only if there are two conversations.
    if (path.includes("conversations?"))
      for (let i = 0; i < 2; i += 1) await sendWithForgedHeaders("POST", "/api/v1/conversations", "{}");
    const response = await sendWithForgedHeaders(method, path, body);
    expect(response.status).not.toBe(0);
    expect(response.text).not.toContain(FORGED_HOST);
    expect(response.text).not.toContain(":61616");
    if (path.includes("limit=1"))
      expect(response.headers.link).toMatch(/^<\/api\/v1\/\w+\?limit=1&cursor=[^>]+>; rel="next"$/);
    if (method === "POST") expect(response.headers.location).toMatch(/^\/api\/v1\/conversations\/[\w-]{36}$/);
  });

  test("don't change the path or method of the request", async () => {
    const response = await sendRaw(parley.url, `GET /version HTTP/1.1\r\n${forgedHeaders}\r\n\r\n`);
    expect(JSON.parse(response.body)).toMatchObject({ version: expect.any(String) });
  });

  test("don't appear in the OpenAPI document", async () => {
    const response = await sendWithForgedHeaders("GET", "/swagger/json");
    expect(response.text).toContain('"servers":[{"url":"/"}]');
  });
});

describe("a forged client address", () => {
  const getLoginAddress = async (app: TestApp, headers: Record<string, string>) => {
    const { user, access_token } = await app.register();
    const response = await app.fetch("/api/v1/auth/login", {
      json: { email: user.email, password: "correct horse battery" },
      headers,
    });
    expect(response.status).toBe(200);
    const sessions = (await (await app.fetch("/api/v1/me/sessions", { token: access_token })).json()) as {
      data: { ip_address: string }[];
    };
    return sessions.data[0]?.ip_address;
  };

  const forgedAddressHeaders: Record<string, string>[] = [
    { "x-forwarded-for": "6.6.6.6" },
    { "x-real-ip": "6.6.6.6" },
    { forwarded: "for=6.6.6.6" },
    { "cf-connecting-ip": "6.6.6.6" },
    { "true-client-ip": "6.6.6.6" },
  ];
  test.each(forgedAddressHeaders)("is ignored if no proxy is trusted (%p)", async (headers) => {
    expect(await getLoginAddress(parley, headers)).toBe("127.0.0.1");
  });

  test.each([
    ["203.0.113.7", "203.0.113.7"],
    ["6.6.6.6, 203.0.113.7", "203.0.113.7"],
    ["6.6.6.6, 203.0.113.7, 127.0.0.9", "203.0.113.7"],
    ["nonsense", "127.0.0.1"],
  ])("is replaced with the address that a trusted proxy saw (X-Forwarded-For: %s)", async (forwarded, expected) => {
    expect(await getLoginAddress(appWithTrustedProxy, { "x-forwarded-for": forwarded })).toBe(expected);
    expect(await getLoginAddress(appWithTrustedProxy, { "x-real-ip": "6.6.6.6", "x-forwarded-for": forwarded })).toBe(
      expected,
    );
  });
});
