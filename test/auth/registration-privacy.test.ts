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
    // With these settings, a hash takes about 10 ms.
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
    ? Object.fromEntries(Object.entries(value).map(([name, field]) => [name, describeShape(field)]))
    : typeof value;

describe("registering a taken email address", () => {
  test("returns the same response as registering an unused one, but with invalid tokens", async () => {
    const unusedResult = await register(createEmail());
    const takenResult = await register(owner.user.email.toUpperCase());
    expect(takenResult.status).toBe(201);
    expect(takenResult.status).toBe(unusedResult.status);
    expect(describeShape(takenResult.body)).toEqual(describeShape(unusedResult.body));
    const listNames = (headers: Headers) => [...headers.keys()].sort();
    expect(listNames(takenResult.headers)).toEqual(listNames(unusedResult.headers));
    for (const field of ["access_token", "refresh_token"] as const)
      expect(takenResult.body[field].length).toBe(unusedResult.body[field].length);
    expect(takenResult.body.user.id).not.toBe(owner.user.id);
    expect(takenResult.body.user).toMatchObject({
      email: owner.user.email.toUpperCase(),
      role: "user",
      disabled: false,
    });
    const { access_token: token, refresh_token } = takenResult.body;
    expect((await parley.fetch("/api/v1/me", { token })).status).toBe(401);
    expect((await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token } })).status).toBe(401);
    expect((await parley.fetch("/api/v1/me", { token: unusedResult.body.access_token })).status).toBe(200);
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
      const removeRequestId = ({
        status,
        body: { request_id, instance, ...body },
      }: Awaited<ReturnType<typeof register>>) => ({
        status,
        body,
      });
      expect(removeRequestId(await register(owner.user.email, extraFields))).toEqual(
        removeRequestId(await register(createEmail(), extraFields)),
      );
    }
  });

  test("takes as long as registering an unused one", async () => {
    const durationsMs = { unused: [] as number[], taken: [] as number[] };
    for (let round = 0; round < 8; round += 1) {
      durationsMs.unused.push((await register(createEmail())).durationMs);
      durationsMs.taken.push((await register(owner.user.email)).durationMs);
    }
    const getMedian = (list: number[]) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;
    // Every response is delayed until a fixed time has passed, so a skipped hash makes no difference.
    for (const durations of Object.values(durationsMs)) expect(getMedian(durations)).toBeGreaterThan(240);
    expect(Math.abs(getMedian(durationsMs.unused) - getMedian(durationsMs.taken))).toBeLessThan(20);
  });

  test("returns the same response even if a concurrent request takes the email address", async () => {
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
  const removeRequestId = ({ request_id, instance, ...body }: Awaited<ReturnType<typeof rest.requestProblem>>) => body;
  const [unusedEmail, takenEmail] = [createEmail(), owner.user.email];
  for (const proof of [{}, { current_password: TEST_PASSWORD }]) {
    const rejection = removeRequestId(await rest.requestProblem("PATCH", "/me", { email: takenEmail, ...proof }));
    expect(rejection).toMatchObject({ status: 403, code: "forbidden" });
    expect(removeRequestId(await rest.requestProblem("PATCH", "/me", { email: unusedEmail, ...proof }))).toEqual(
      rejection,
    );
  }
  expect((await rest.request("PATCH", "/me", { display_name: "Fine" })).status).toBe(200);
  expect((await parley.admin.request("PATCH", `/users/${rest.id}`, { email: unusedEmail })).status).toBe(200);
  expect((await parley.admin.requestProblem("PATCH", `/users/${rest.id}`, { email: takenEmail })).status).toBe(409);
});

test("logging in with an issuer's token doesn't reveal an existing account unless the issuer has verified the email address", async () => {
  const logInWithClaims = async (claims: JWTPayload) => {
    const token = await issuer.sign(claims);
    const response = await parley.fetch("/api/v1/auth/oidc", { json: { token } });
    const { request_id, instance, ...body } = (await response.json()) as Record<string, unknown>;
    return { status: response.status, body };
  };
  for (const email_verified of [undefined, false, "false"]) {
    const takenResult = await logInWithClaims({ email: owner.user.email, email_verified });
    expect(takenResult).toEqual(await logInWithClaims({ email: createEmail(), email_verified }));
    expect(takenResult).toMatchObject({ status: 403, body: { code: "forbidden" } });
  }
  expect((await logInWithClaims({ email: createEmail() })).status).toBe(200);
  const takenResult = await logInWithClaims({ email: owner.user.email });
  expect(takenResult).toMatchObject({ status: 403, body: { code: "forbidden" } });
  expect(JSON.stringify(takenResult.body)).not.toContain("exists");
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
  const rejectedResult = await register(owner.user.email);
  expect(rejectedResult).toMatchObject({ status: 429, body: { code: "rate_limited" } });
});
