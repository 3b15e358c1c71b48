import { afterEach, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import type { FetchOptions } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { parseLimitHeader } from "./headers.ts";

let parley: TestApp;
afterEach(() => parley.stop());

const startParley = async (config: Record<string, string>) => {
  parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", ...config } });
};
const sendRequest = async (path: string, options: FetchOptions = {}) => {
  const response = await parley.fetch(path, options);
  await response.text();
  return response;
};
const repeatRequest = async (count: number, path: string, options?: FetchOptions) => {
  const statuses: number[] = [];
  for (let n = 0; n < count; n += 1) statuses.push((await sendRequest(path, options)).status);
  return statuses;
};
const countRejections = async (limit: string): Promise<number> => {
  const text = await (await parley.fetch("/metrics")).text();
  return Number(new RegExp(`^parley_rate_limited_total\\{limit="${limit}"\\} (\\d+)$`, "m").exec(text)?.[1] ?? 0);
};
const createKey = async ({ access_token: token }: Account, scopes = ["users:read", "conversations:read"]) => {
  const response = await parley.fetch("/api/v1/api-keys", { token, json: { name: "Test", scopes } });
  expect(response.status).toBe(201);
  return ((await response.json()) as { key: string }).key;
};

describe("a caller's limits", () => {
  test("are in every response, and exceeding them returns 429", async () => {
    await startParley({ RATE_LIMIT_READ_PER_10S: "3", RATE_LIMIT_READ_PER_MINUTE: "100" });
    const { access_token: token } = await parley.register();
    for (const remaining of [2, 1, 0]) {
      const { status, headers } = await sendRequest("/api/v1/me", { token });
      expect(status).toBe(200);
      expect(parseLimitHeader(headers.get("ratelimit-policy"))).toEqual({
        burst: { q: 3, w: 10 },
        sustained: { q: 100, w: 60 },
      });
      const { burst, sustained } = parseLimitHeader(headers.get("ratelimit"));
      expect({ burst: burst?.r, sustained: sustained?.r }).toEqual({ burst: remaining, sustained: 97 + remaining });
      expect(burst?.t).toBeWithin(1, 11);
      expect(sustained?.t).toBeWithin(1, 61);
    }
    const response = await parley.fetch("/api/v1/me", { token });
    const body = (await response.json()) as ProblemBody;
    expect(response.status).toBe(429);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(body).toMatchObject({ code: "rate_limited", status: 429, violated_policies: ["burst"] });
    const { burst } = parseLimitHeader(response.headers.get("ratelimit"));
    expect(burst?.r).toBe(0);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThanOrEqual(burst?.t ?? 99);
    expect(response.headers.get("x-request-id")).toBe(body.request_id);
    expect(await countRejections("read")).toBe(1);
  });

  test("are exact for 16 concurrent clients", async () => {
    const quota = 200;
    await startParley({ RATE_LIMIT_READ_PER_10S: String(quota) });
    const { access_token: token } = await parley.register();
    const clients = Array.from({ length: 16 }, () => repeatRequest(25, "/api/v1/me", { token }));
    const statuses = (await Promise.all(clients)).flat();
    expect(statuses.filter((status) => status === 200)).toHaveLength(quota);
    expect(statuses.filter((status) => status === 429)).toHaveLength(400 - quota);
  });

  test("are separate for reads and writes, and per user", async () => {
    await startParley({ RATE_LIMIT_READ_PER_10S: "2", RATE_LIMIT_WRITE_PER_10S: "2" });
    const [anna, ben] = [await parley.register(), await parley.register()];
    const profileChange = { token: anna.access_token, method: "PATCH", json: { display_name: "Anna" } };
    expect(await repeatRequest(3, "/api/v1/me", { token: anna.access_token })).toEqual([200, 200, 429]);
    expect(await repeatRequest(3, "/api/v1/me", profileChange)).toEqual([200, 200, 429]);
    expect(await repeatRequest(3, "/api/v1/me", { token: ben.access_token })).toEqual([200, 200, 429]);
  });

  test("are shared by all sessions of an account", async () => {
    await startParley({ RATE_LIMIT_READ_PER_10S: "2" });
    const { user, access_token: token } = await parley.register();
    const login = { json: { email: user.email, password: "correct horse battery" } };
    const otherSession = (await (await parley.fetch("/api/v1/auth/login", login)).json()) as Account;
    expect(await repeatRequest(2, "/api/v1/me", { token })).toEqual([200, 200]);
    expect(await repeatRequest(1, "/api/v1/me", { token: otherSession.access_token })).toEqual([429]);
  });

  test("apply to an API key and to its user", async () => {
    await startParley({ RATE_LIMIT_READ_PER_10S: "4" });
    const anna = await parley.register();
    const [firstKey, secondKey] = [await createKey(anna), await createKey(anna)];
    expect(await repeatRequest(3, "/api/v1/me", { token: firstKey })).toEqual([200, 200, 200]);
    expect(await repeatRequest(2, "/api/v1/me", { token: secondKey })).toEqual([200, 429]);
  });

  test("also count requests that an API key's scopes don't allow", async () => {
    await startParley({ RATE_LIMIT_READ_PER_10S: "2" });
    const key = await createKey(await parley.register(), ["users:read"]);
    expect(await repeatRequest(3, "/api/v1/conversations", { token: key })).toEqual([403, 403, 429]);
  });

  test("are also in the headers of event streams and /v1 responses, and errors on /v1 have OpenAI's format", async () => {
    await startParley({ RATE_LIMIT_AI_PER_10S: "1" });
    const anna = await parley.register();
    const token = anna.access_token;
    const { id } = await createConversation(parley, anna);
    const headers = { accept: "text/event-stream" };
    const feed = await parley.fetch(`/api/v1/conversations/${id}/events`, { token, headers });
    expect(feed.headers.get("content-type")).toStartWith("text/event-stream");
    expect(parseLimitHeader(feed.headers.get("ratelimit"))).toHaveProperty("burst");
    await feed.body?.cancel();

    const json = { model: "offline/documents", messages: [{ role: "user", content: "Hello" }] };
    const completion = await sendRequest("/v1/chat/completions", { token, json });
    expect(completion.status).toBe(200);
    expect(parseLimitHeader(completion.headers.get("ratelimit")).burst?.r).toBe(0);
    const rejectedResponse = await parley.fetch("/v1/chat/completions", { token, json });
    expect(rejectedResponse.status).toBe(429);
    expect(await rejectedResponse.json()).toEqual({
      error: {
        message: expect.stringContaining("Too many requests to models"),
        type: "rate_limit_error",
        param: null,
        code: "rate_limit_exceeded",
      },
    });
    expect(Number(rejectedResponse.headers.get("retry-after"))).toBeWithin(1, 11);
    expect(parseLimitHeader(rejectedResponse.headers.get("ratelimit")).burst?.r).toBe(0);
  });
});

describe("a client address's limits", () => {
  const createForwardedOptions = (address: string): FetchOptions => ({ headers: { "x-forwarded-for": address } });

  test("apply before authentication", async () => {
    await startParley({ RATE_LIMIT_ADDRESS_PER_10S: "5" });
    expect(await repeatRequest(3, "/api/v1/me", { token: "nonsense" })).toEqual([401, 401, 401]);
    expect(await repeatRequest(2, "/api/v1/nothing")).toEqual([404, 404]);
    for (const path of ["/api/v1/me", "/api", "/v1/models", "/realtime", "/api/v1/auth/login?x=1"])
      expect({ path, status: (await sendRequest(path)).status }).toEqual({ path, status: 429 });
    for (const path of ["/livez", "/readyz", "/metrics", "/version", "/swagger/json", "/problems/rate_limited"])
      expect({ path, status: (await sendRequest(path)).status }).toEqual({ path, status: 200 });
    expect(await countRejections("address")).toBe(5);
  });

  test("can't be evaded with a forged X-Forwarded-For or a different form of the URL", async () => {
    await startParley({ RATE_LIMIT_AUTH_PER_10S: "4" });
    const json = { email: "nobody", password: "x" };
    const login = (path: string, address: string) =>
      repeatRequest(1, path, { json, ...createForwardedOptions(address) });
    expect(await login("/api/v1/auth/login", "198.51.100.1")).toEqual([422]);
    expect(await login("/api/v1/auth/login/", "198.51.100.2")).toEqual([422]);
    expect(await login("/api/v1/auth/login?a=b", "198.51.100.3")).toEqual([422]);
    expect(await login("/api/v1/auth/register", "198.51.100.4")).toEqual([422]);
    expect(await login("/api/v1/auth/login", "198.51.100.5")).toEqual([429]);
    expect(await login("/api/v1/auth/login/", "198.51.100.6")).toEqual([429]);
  });

  test("apply to the client behind a trusted proxy, by /64 for IPv6", async () => {
    await startParley({ RATE_LIMIT_ADDRESS_PER_10S: "2", TRUSTED_PROXIES: "127.0.0.1" });
    const requestMe = (address: string) => repeatRequest(1, "/api/v1/me", createForwardedOptions(address));
    expect(await repeatRequest(3, "/api/v1/me", createForwardedOptions("198.51.100.1"))).toEqual([401, 401, 429]);
    expect(await requestMe("198.51.100.2")).toEqual([401]);
    // The client forged the entries to the left of the address that the proxy saw.
    expect(await requestMe("203.0.113.9, 198.51.100.1")).toEqual([429]);
    expect(await requestMe("2001:db8:1:2::1")).toEqual([401]);
    expect(await requestMe("2001:db8:1:2:ffff::9")).toEqual([401]);
    expect(await requestMe("2001:db8:1:2:abcd:1:2:3")).toEqual([429]);
    expect(await requestMe("2001:db8:1:3::1")).toEqual([401]);
  });

  test("count refreshes and tickets separately from logins", async () => {
    await startParley({ RATE_LIMIT_AUTH_PER_10S: "1", RATE_LIMIT_RENEW_PER_10S: "3" });
    const { access_token: token, refresh_token } = await parley.register();
    expect(await repeatRequest(1, "/api/v1/auth/login", { json: { email: "a@example.com", password: "x" } })).toEqual([
      429,
    ]);
    const refreshed = await sendRequest("/api/v1/auth/refresh", { json: { refresh_token } });
    expect(refreshed.status).toBe(200);
    expect(parseLimitHeader(refreshed.headers.get("ratelimit-policy")).burst).toEqual({ q: 3, w: 10 });
    expect(await repeatRequest(3, "/api/v1/auth/ticket", { token, method: "POST" })).toEqual([200, 200, 429]);
  });
});

test("RATE_LIMIT_ENABLED=false disables all limits", async () => {
  await startParley({ RATE_LIMIT_ENABLED: "false", RATE_LIMIT_READ_PER_10S: "1", RATE_LIMIT_ADDRESS_PER_10S: "1" });
  const { access_token: token } = await parley.register();
  expect(await repeatRequest(3, "/api/v1/me", { token })).toEqual([200, 200, 200]);
  expect((await sendRequest("/api/v1/me", { token })).headers.has("ratelimit")).toBe(false);
});

test("the OpenAPI document lists each route's limit and its 429 response", async () => {
  await startParley({});
  type Operation = { "x-limit"?: string; responses: Record<string, unknown> };
  const document = (await (await parley.fetch("/swagger/json")).json()) as {
    paths: Record<string, Record<string, Operation>>;
  };
  const findOperation = (path: string, method: string) => document.paths[path]?.[method];
  expect(findOperation("/api/v1/auth/login", "post")?.["x-limit"]).toBe("auth");
  expect(findOperation("/v1/chat/completions", "post")?.["x-limit"]).toBe("ai");
  const limitedPaths = Object.entries(document.paths).filter(([path]) => /^\/(?:api|v1)\//.test(path));
  expect(limitedPaths.length).toBeGreaterThan(30);
  for (const [path, operations] of limitedPaths)
    for (const [method, { responses }] of Object.entries(operations))
      expect({ path, method, is429: "429" in responses }).toEqual({ path, method, is429: true });
  expect(findOperation("/livez", "get")?.responses).not.toHaveProperty("429");
});
