import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { JWTPayload } from "jose";
import { createId } from "../../src/lib/id.ts";
import { type Administration, logIn, startAdministration, type User } from "../accounts/start-administration.ts";
import { type Account, TEST_PASSWORD } from "../support/app.ts";
import { createRestClient } from "../support/rest.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

const FAILURES_MAX = 40;
const FAILURES_PER_ADDRESS_MAX = 60;
let parley: Administration;
let issuer: Issuer;
let owner: Account;
beforeAll(async () => {
  issuer = await startIssuer();
  parley = await startAdministration({
    // A hash takes about 10 ms, so the test would notice if a taken address skipped the hash.
    passwords: { memoryKib: 8_192, iterations: 1 },
    config: {
      REGISTRATION_PRIVACY: "on",
      RATE_LIMIT_ENABLED: "true",
      RATE_LIMIT_LOGIN_FAILURES: String(FAILURES_MAX),
      RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS: String(FAILURES_PER_ADDRESS_MAX),
      OIDC_ISSUER: issuer.url,
      OIDC_AUDIENCE: AUDIENCE,
    },
  });
  owner = await parley.register();
});
afterAll(async () => {
  await parley.stop();
  await issuer.stop();
});

const createEmail = () => `${createId()}@example.com`;
async function register(email: string, extraFields: object = {}) {
  const startedAtMs = performance.now();
  const json = { email, password: "somebody's guess", ...extraFields };
  const response = await parley.fetch("/api/v1/auth/register", { json });
  const body = (await response.json()) as Account & Record<string, unknown>;
  return { status: response.status, headers: response.headers, body, durationMs: performance.now() - startedAtMs };
}
const describeShape = (value: unknown): unknown =>
  value && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([name, part]) => [name, describeShape(part)]))
    : typeof value;

describe("registering a taken email address", () => {
  test("returns the same response as registering a free one, with invalid tokens", async () => {
    const freeResult = await register(createEmail());
    const takenResult = await register(owner.user.email.toUpperCase());
    expect(takenResult.status).toBe(201);
    expect(takenResult.status).toBe(freeResult.status);
    expect(describeShape(takenResult.body)).toEqual(describeShape(freeResult.body));
    const listNames = (headers: Headers) => [...headers.keys()].sort();
    expect(listNames(takenResult.headers)).toEqual(listNames(freeResult.headers));
    for (const field of ["access_token", "refresh_token"] as const)
      expect(takenResult.body[field].length).toBe(freeResult.body[field].length);
    expect(takenResult.body.user.id).not.toBe(owner.user.id);
    expect(takenResult.body.user).toMatchObject({
      email: owner.user.email.toUpperCase(),
      role: "user",
      disabled: false,
    });
    const { access_token: token, refresh_token } = takenResult.body;
    expect((await parley.fetch("/api/v1/me", { token })).status).toBe(401);
    expect((await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token } })).status).toBe(401);
    expect((await parley.fetch("/api/v1/me", { token: freeResult.body.access_token })).status).toBe(200);
  });

  test("leaves the account unchanged, and is recorded in the audit log", async () => {
    await register(owner.user.email, { display_name: "A thief" });
    const json = { email: owner.user.email, password: "somebody's guess" };
    expect((await parley.fetch("/api/v1/auth/login", { json })).status).toBe(401);
    const me = createRestClient(parley, await logIn(parley, owner.user.email));
    expect((await me.get<User>("/me")).body).toMatchObject({ id: owner.user.id, display_name: "Somebody" });
    expect(await parley.database`select 1 from users where email_key = ${owner.user.email}`).toHaveLength(1);
    const path = `/audit?action=user.registration_refused&target_id=${owner.user.id}`;
    expect((await parley.admin.get<{ data: unknown[] }>(path)).body.data.length).toBeGreaterThan(0);
  });

  test("returns the same error for an invalid body", async () => {
    for (const extraFields of [{ password: "password" }, { display_name: "" }, { role: "admin" }]) {
      const strip = ({ status, body: { request_id, instance, ...body } }: Awaited<ReturnType<typeof register>>) => ({
        status,
        body,
      });
      expect(strip(await register(owner.user.email, extraFields))).toEqual(
        strip(await register(createEmail(), extraFields)),
      );
    }
  });

  test("takes as long as registering a free one", async () => {
    const times = { free: [] as number[], taken: [] as number[] };
    for (let round = 0; round < 8; round += 1) {
      times.free.push((await register(createEmail())).durationMs);
      times.taken.push((await register(owner.user.email)).durationMs);
    }
    const median = (list: number[]) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;
    // Both responses are delayed until the same total duration, so skipping the hash makes no difference.
    for (const durations of Object.values(times)) expect(median(durations)).toBeGreaterThan(240);
    expect(Math.abs(median(times.free) - median(times.taken))).toBeLessThan(20);
  });

  test("returns the same response even if the address is taken by a concurrent request", async () => {
    const email = createEmail();
    const responses = await Promise.all([0, 1, 2, 3].map(() => register(email)));
    expect(responses.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    const statuses = await Promise.all(
      responses.map(async ({ body }) => (await parley.fetch("/api/v1/me", { token: body.access_token })).status),
    );
    expect(statuses.sort()).toEqual([200, 401, 401, 401]);
  });
});

test("users can't change their email address, but an administrator can", async () => {
  const account = await parley.register();
  const rest = createRestClient(parley, account);
  const strip = ({ request_id, instance, ...body }: Awaited<ReturnType<typeof rest.requestProblem>>) => body;
  const [free, taken] = [createEmail(), owner.user.email];
  for (const proof of [{}, { current_password: TEST_PASSWORD }]) {
    const rejection = strip(await rest.requestProblem("PATCH", "/me", { email: taken, ...proof }));
    expect(rejection).toMatchObject({ status: 403, code: "forbidden" });
    expect(strip(await rest.requestProblem("PATCH", "/me", { email: free, ...proof }))).toEqual(rejection);
  }
  expect((await rest.request("PATCH", "/me", { display_name: "Fine" })).status).toBe(200);
  expect((await parley.admin.request("PATCH", `/users/${rest.id}`, { email: free })).status).toBe(200);
  expect((await parley.admin.requestProblem("PATCH", `/users/${rest.id}`, { email: taken })).status).toBe(409);
});

test("logging in with an issuer's token doesn't reveal an existing account unless the issuer has verified the email address", async () => {
  const logInBy = async (claims: JWTPayload) => {
    const token = await issuer.sign(claims);
    const response = await parley.fetch("/api/v1/auth/oidc", { json: { token } });
    const { request_id, instance, ...body } = (await response.json()) as Record<string, unknown>;
    return { status: response.status, body };
  };
  for (const email_verified of [undefined, false, "false"]) {
    const taken = await logInBy({ email: owner.user.email, email_verified });
    expect(taken).toEqual(await logInBy({ email: createEmail(), email_verified }));
    expect(taken).toMatchObject({ status: 403, body: { code: "forbidden" } });
  }
  expect((await logInBy({ email: createEmail() })).status).toBe(200);
  const taken = await logInBy({ email: owner.user.email });
  expect(taken).toMatchObject({ status: 403, body: { code: "forbidden" } });
  expect(JSON.stringify(taken.body)).not.toContain("exists");
});

test("members can't be added by email address by default", async () => {
  const rest = createRestClient(parley, await parley.register());
  const { body } = await rest.request<{ id: string }>("POST", "/conversations", {});
  for (const email of [owner.user.email, createEmail()])
    expect(await rest.requestProblem("POST", `/conversations/${body.id}/members`, { email })).toMatchObject({
      status: 403,
    });
});

test("registering many taken email addresses is rate-limited like wrong passwords", async () => {
  const statuses: number[] = [];
  for (let n = 0; n <= FAILURES_MAX && !statuses.includes(429); n += 8)
    statuses.push(
      ...(await Promise.all(Array.from({ length: 8 }, () => register(owner.user.email)))).map(({ status }) => status),
    );
  expect(statuses).toContain(429);
  const rejected = await register(owner.user.email);
  expect(rejected).toMatchObject({ status: 429, body: { code: "rate_limited" } });
});
