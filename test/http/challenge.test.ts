import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

const plain = 'Bearer realm="parley"';
const refused = `${plain}, error="invalid_token"`;

describe("WWW-Authenticate", () => {
  const scenarios: { name: string; headers: Record<string, string>; expected: string }[] = [
    { name: "without a credential", headers: {}, expected: plain },
    { name: "with another scheme", headers: { authorization: "Basic YTpi" }, expected: plain },
    { name: "with an invalid token", headers: { authorization: "Bearer x.y.z" }, expected: refused },
    {
      name: "with a lower-case scheme and an invalid token",
      headers: { authorization: "bearer x.y.z" },
      expected: refused,
    },
    { name: "with an unknown key", headers: { "x-api-key": `pk_${"a".repeat(36)}` }, expected: refused },
  ];
  describe.each(["/api/v1/me", "/v1/models"])("of a 401 at %s", (path) => {
    test.each(scenarios)("$name", async ({ headers, expected }) => {
      const response = await parley.fetch(path, { headers });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe(expected);
    });
  });

  test("of a wrong password does not mention tokens", async () => {
    const json = { email: "nobody@example.com", password: "a wrong password" };
    const response = await parley.fetch("/api/v1/auth/login", { json });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe(plain);
  });

  test("of an upgrade with an invalid token", async () => {
    const response = await parley.fetch("/realtime", {
      token: "x.y.z",
      headers: { upgrade: "websocket", connection: "Upgrade" },
    });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe(refused);
  });

  test("of a key without the required scope names the scope", async () => {
    const { access_token: token } = await parley.register();
    const made = await parley.fetch("/api/v1/api-keys", { token, json: { name: "k", scopes: ["messages:read"] } });
    const { key } = (await made.json()) as { key: string };
    const response = await parley.fetch("/api/v1/conversations", { token: key });
    expect(response.status).toBe(403);
    expect(response.headers.get("www-authenticate")).toBe(
      `${plain}, error="insufficient_scope", scope="conversations:read"`,
    );
  });

  test("is on no other response", async () => {
    const { access_token: token } = await parley.register();
    for (const path of ["/api/v1/me", "/api/v1/nothing", "/version"])
      expect((await parley.fetch(path, { token })).headers.get("www-authenticate")).toBeNull();
  });
});
