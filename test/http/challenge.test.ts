import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

const challenge = 'Bearer realm="parley"';
const invalidTokenChallenge = `${challenge}, error="invalid_token"`;

describe("the WWW-Authenticate header", () => {
  const scenarios: { name: string; headers: Record<string, string>; expected: string }[] = [
    { name: "without credentials", headers: {}, expected: challenge },
    { name: "with a different scheme", headers: { authorization: "Basic YTpi" }, expected: challenge },
    { name: "with an invalid token", headers: { authorization: "Bearer x.y.z" }, expected: invalidTokenChallenge },
    {
      name: "with a lower-case scheme and an invalid token",
      headers: { authorization: "bearer x.y.z" },
      expected: invalidTokenChallenge,
    },
    { name: "with an unknown key", headers: { "x-api-key": `pk_${"a".repeat(36)}` }, expected: invalidTokenChallenge },
  ];
  describe.each(["/api/v1/me", "/v1/models"])("in a 401 response from %s", (path) => {
    test.each(scenarios)("to a request $name is $expected", async ({ headers, expected }) => {
      const response = await parley.fetch(path, { headers });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe(expected);
    });
  });

  test("in the response to an incorrect password doesn't mention tokens", async () => {
    const json = { email: "nobody@example.com", password: "an incorrect password" };
    const response = await parley.fetch("/api/v1/auth/login", { json });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe(challenge);
  });

  test("in the response to an upgrade request reports an invalid token", async () => {
    const response = await parley.fetch("/realtime", {
      token: "x.y.z",
      headers: { upgrade: "websocket", connection: "Upgrade" },
    });
    expect(response.status).toBe(401);
    expect(response.headers.get("www-authenticate")).toBe(invalidTokenChallenge);
  });

  test("in the response to an API key without the required scope contains the scope", async () => {
    const { access_token: token } = await parley.register();
    const creationResponse = await parley.fetch("/api/v1/api-keys", {
      token,
      json: { name: "k", scopes: ["messages:read"] },
    });
    const { key } = (await creationResponse.json()) as { key: string };
    const response = await parley.fetch("/api/v1/conversations", { token: key });
    expect(response.status).toBe(403);
    expect(response.headers.get("www-authenticate")).toBe(
      `${challenge}, error="insufficient_scope", scope="conversations:read"`,
    );
  });

  test("is missing from successful and 404 responses", async () => {
    const { access_token: token } = await parley.register();
    for (const path of ["/api/v1/me", "/api/v1/nothing", "/version"])
      expect((await parley.fetch(path, { token })).headers.get("www-authenticate")).toBeNull();
  });
});
