import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { LOGGED_ORIGINS_MAX } from "../../src/http/rejected-origins.ts";
import { startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import type { Account } from "../support/client.ts";
import { createTestLog } from "../support/log.ts";
import { openSocket } from "../support/socket.ts";
import { waitUntil } from "../support/wait-until.ts";

const { log, lines } = createTestLog();
let app: TestApp;
let anna: Account;
beforeAll(async () => {
  app = await startApp({ log, config: { IMPORT_BYTES_MAX: "1024" } });
  anna = await app.register();
});
afterAll(() => app?.stop());
beforeEach(() => void lines.splice(0));

const uuidStart = /^[0-9a-f]{8}-/;

/** Waits for a request's log line, which is written after its response. */
async function findRequestLine(response: { headers: Headers }): Promise<Record<string, unknown>> {
  const id = response.headers.get("x-request-id");
  const listLines = () => lines.filter(({ msg, request_id }) => msg === "request" && request_id === id);
  await waitUntil(() => listLines().length > 0);
  expect(listLines()).toHaveLength(1);
  return listLines()[0] ?? {};
}

type Case = { name: string; path: string; init?: Parameters<TestApp["fetch"]>[1]; line: Record<string, unknown> };
const largeBody = { x: "x".repeat(100_000) };
const requestCases: Case[] = [
  { name: "a GET request", path: "/api/v1/me", line: { route: "/api/v1/me", status: 200, level: "info" } },
  { name: "a POST request", path: "/api/v1/conversations", init: { json: {} }, line: { status: 201 } },
  { name: "invalid input", path: "/api/v1/conversations", init: { json: { kind: 7 } }, line: { status: 422 } },
  {
    name: "an unknown resource",
    path: "/api/v1/conversations/00000000-0000-7000-8000-000000000000",
    line: { route: "/api/v1/conversations/:id", status: 404 },
  },
  { name: "an oversized body", path: "/api/v1/api-keys", init: { json: largeBody }, line: { status: 413 } },
  {
    name: "an oversized upload",
    path: "/api/v1/imports?source=chatgpt",
    init: { json: largeBody },
    line: { status: 413 },
  },
  { name: "a forbidden request", path: "/api/v1/audit", line: { status: 403 } },
  { name: "a failed completion", path: "/v1/chat/completions", init: { json: {} }, line: { status: 400 } },
];

test.each(requestCases)(
  "the log line for $name contains the status, request ID, IP address and user",
  async ({ path, init, line }) => {
    const response = await app.fetch(path, { token: anna.access_token, ...init });
    await response.text();
    expect(await findRequestLine(response)).toMatchObject({
      ...line,
      request_id: response.headers.get("x-request-id"),
      address: expect.stringMatching(/^(::ffff:)?127\.0\.0\.1$|^::1$/),
      user_id: anna.user.id,
      ms: expect.any(Number),
    });
  },
);

test("a request without authentication is logged without a user", async () => {
  const response = await app.fetch("/api/v1/me", { headers: { "x-request-id": "mine-1" } });
  expect(await findRequestLine(response)).toMatchObject({
    status: 401,
    request_id: "mine-1",
    user_id: null,
    level: "info",
  });
});

test.each([
  ["/nope/here", 404, "/nope/here"],
  ["/api/v1/nope?ticket=secret-ticket", 404, "/api/v1/nope"],
  [`/api/v1/hook/${"t0ken".repeat(9)}`, 404, "/api/v1/hook/…"],
  ["/api/v1/nope/00000000-0000-7000-8000-000000000000", 404, "/api/v1/nope/00000000-0000-7000-8000-000000000000"],
  [`/${"a/".repeat(5_000)}`, 404, "/a".repeat(11)],
])("the unknown path %s is logged without secrets", async (path, status, loggedPath) => {
  const line = await findRequestLine(await app.fetch(path));
  expect(line).toMatchObject({
    route: "unmatched",
    status,
    path: loggedPath,
    level: "info",
    request_id: expect.stringMatching(uuidStart),
  });
  expect(JSON.stringify(line)).not.toMatch(/secret-ticket|t0ken/);
});

test("a request with an unsupported method is logged with its status", async () => {
  const response = await app.fetch("/api/v1/me", { method: "PUT", token: anna.access_token });
  expect(await findRequestLine(response)).toMatchObject({ status: 405, method: "PUT", path: "/api/v1/me" });
});

test.each([
  ["no upgrade headers", 400, {}, ""],
  ["an invalid token", 401, { authorization: "Bearer wrong" }, ""],
  ["an unknown ticket", 401, {}, "?ticket=secret-ticket"],
  ["an origin that isn't allowed", 403, { origin: "https://upgrade.example" }, ""],
] as const)("a request to /realtime that is rejected because of %s is logged", async (name, status, headers, query) => {
  const upgrade: Record<string, string> =
    name === "no upgrade headers"
      ? {}
      : {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        };
  const response = await app.fetch(`/realtime${query}`, { headers: { ...upgrade, ...headers } });
  expect(response.status).toBe(status);
  const line = await findRequestLine(response);
  expect(line).toMatchObject({ route: "/realtime", status, address: expect.any(String), user_id: null });
  expect(JSON.stringify(line)).not.toContain("secret-ticket");
});

test("an upgrade is logged with status 101 and its user", async () => {
  const socket = await openSocket(app.url, { token: anna.access_token, headers: { "x-request-id": "opens" } });
  expect(await findRequestLine({ headers: new Headers({ "x-request-id": "opens" }) })).toMatchObject({
    route: "/realtime",
    status: 101,
    user_id: anna.user.id,
  });
  await socket.close();
});

test("probes, preflights and requests to /version are logged only at debug level", async () => {
  for (const path of ["/livez", "/readyz", "/metrics"]) await app.fetch(path);
  await app.fetch("/api/v1/me", {
    method: "OPTIONS",
    headers: { origin: "http://localhost:5173", "access-control-request-method": "GET" },
  });
  await app.fetch("/version");
  // An earlier test's upgrade may be logged during this test.
  const isRelevant = ({ route, method }: Record<string, unknown>) => route !== "/realtime" && method !== undefined;
  await waitUntil(() => lines.some(({ route }) => route === "/version"));
  expect(lines.filter((line) => isRelevant(line) && line.level !== "debug")).toEqual([]);
});

test("a login is logged without its credentials", async () => {
  const json = { email: "a@example.com", password: TEST_PASSWORD };
  expect(await findRequestLine(await app.fetch("/api/v1/auth/login", { json }))).toMatchObject({
    route: "/api/v1/auth/login",
    status: 401,
  });
  expect(JSON.stringify(lines)).not.toContain(TEST_PASSWORD);
});

test("one warning is logged per rejected origin, up to a maximum number of warnings", async () => {
  const requestFrom = (origin: string) => app.fetch("/api/v1/me", { headers: { origin } });
  const listWarnings = () => lines.filter(({ level }) => level === "warn");
  for (const origin of ["https://one.example", "https://one.example", "null", "https://u:hunter2@two.example"])
    await requestFrom(origin);
  expect(listWarnings()).toMatchObject([
    { origin: "https://one.example", msg: expect.stringContaining("CORS_ORIGINS") },
    { origin: "null", msg: expect.stringContaining("serve the page over HTTP") },
    { origin: "https://********@two.example" },
  ]);
  await requestFrom("http://localhost:5173");
  expect(listWarnings()).toHaveLength(3);
  await Promise.all(
    Array.from({ length: LOGGED_ORIGINS_MAX + 50 }, (_, index) => requestFrom(`https://x${index}.example`)),
  );
  // The last warning states that no more warnings will be logged. An earlier test has already caused one warning.
  expect(listWarnings().length).toBeLessThanOrEqual(LOGGED_ORIGINS_MAX + 1);
  expect(listWarnings().at(-1)).toMatchObject({ count: LOGGED_ORIGINS_MAX });
});
