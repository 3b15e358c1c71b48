import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { JWTPayload } from "jose";
import { createId } from "../../src/lib/id.ts";
import { type Administration, logIn, startAdministration, type User } from "../accounts/start-administration.ts";
import { type Account, TEST_PASSWORD } from "../support/app.ts";
import { createRest } from "../support/rest.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

const FREE_FAILURES = 40;
const FREE_PER_ADDRESS = 60;
let parley: Administration;
let issuer: Issuer;
let owner: Account;
beforeAll(async () => {
  issuer = await startIssuer();
  parley = await startAdministration({
    // About 10 ms: skipping the hash for a taken address would be noticeable.
    passwords: { memoryKib: 8_192, passes: 1 },
    config: {
      REGISTRATION_PRIVACY: "on",
      RATE_LIMIT_ENABLED: "true",
      RATE_LIMIT_LOGIN_FAILURES: String(FREE_FAILURES),
      RATE_LIMIT_LOGIN_FAILURES_PER_ADDRESS: String(FREE_PER_ADDRESS),
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

const newEmail = () => `${createId()}@example.com`;
async function register(email: string, more: object = {}) {
  const startedAtMs = performance.now();
  const json = { email, password: "somebody's guess", ...more };
  const response = await parley.fetch("/api/v1/auth/register", { json });
  const body = (await response.json()) as Account & Record<string, unknown>;
  return { status: response.status, headers: response.headers, body, tookMs: performance.now() - startedAtMs };
}
const shapeOf = (value: unknown): unknown =>
  value && typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([name, part]) => [name, shapeOf(part)]))
    : typeof value;

describe("registering a taken address", () => {
  test("responds as for a free one, with useless tokens", async () => {
    const free = await register(newEmail());
    const taken = await register(owner.user.email.toUpperCase());
    expect(taken.status).toBe(201);
    expect(taken.status).toBe(free.status);
    expect(shapeOf(taken.body)).toEqual(shapeOf(free.body));
    const names = (headers: Headers) => [...headers.keys()].sort();
    expect(names(taken.headers)).toEqual(names(free.headers));
    for (const field of ["access_token", "refresh_token"] as const)
      expect(taken.body[field].length).toBe(free.body[field].length);
    expect(taken.body.user.id).not.toBe(owner.user.id);
    expect(taken.body.user).toMatchObject({ email: owner.user.email.toUpperCase(), role: "user", disabled: false });
    // The tokens never worked.
    const { access_token: token, refresh_token } = taken.body;
    expect((await parley.fetch("/api/v1/me", { token })).status).toBe(401);
    expect((await parley.fetch("/api/v1/auth/refresh", { json: { refresh_token } })).status).toBe(401);
    expect((await parley.fetch("/api/v1/me", { token: free.body.access_token })).status).toBe(200);
  });

  test("leaves the account unchanged, and is recorded in the audit log for its administrator", async () => {
    await register(owner.user.email, { display_name: "A thief" });
    const json = { email: owner.user.email, password: "somebody's guess" };
    expect((await parley.fetch("/api/v1/auth/login", { json })).status).toBe(401);
    const me = createRest(parley, await logIn(parley, owner.user.email));
    expect((await me.get<User>("/me")).body).toMatchObject({ id: owner.user.id, display_name: "Somebody" });
    expect(await parley.database`select 1 from users where email_key = ${owner.user.email}`).toHaveLength(1);
    const path = `/audit?action=user.registration_refused&target_id=${owner.user.id}`;
    expect((await parley.admin.get<{ data: unknown[] }>(path)).body.data.length).toBeGreaterThan(0);
  });

  test("rejects an invalid body in the same way", async () => {
    for (const more of [{ password: "password" }, { display_name: "" }, { role: "admin" }]) {
      const strip = ({ status, body: { request_id, instance, ...body } }: Awaited<ReturnType<typeof register>>) => ({
        status,
        body,
      });
      expect(strip(await register(owner.user.email, more))).toEqual(strip(await register(newEmail(), more)));
    }
  });

  test("takes as long as for a free one", async () => {
    const times = { free: [] as number[], taken: [] as number[] };
    for (let round = 0; round < 8; round += 1) {
      times.free.push((await register(newEmail())).tookMs);
      times.taken.push((await register(owner.user.email)).tookMs);
    }
    const median = (list: number[]) => [...list].sort((a, b) => a - b)[list.length >> 1] ?? 0;
    // Both are padded to the same time, and a hash is a small part of it.
    for (const list of Object.values(times)) expect(median(list)).toBeGreaterThan(240);
    expect(Math.abs(median(times.free) - median(times.taken))).toBeLessThan(20);
  });

  test("of 4 concurrent requests with one new address, one creates the account, and the others look the same", async () => {
    const email = newEmail();
    const all = await Promise.all([0, 1, 2, 3].map(() => register(email)));
    expect(all.map(({ status }) => status)).toEqual([201, 201, 201, 201]);
    const works = await Promise.all(
      all.map(async ({ body }) => (await parley.fetch("/api/v1/me", { token: body.access_token })).status),
    );
    expect(works.sort()).toEqual([200, 401, 401, 401]);
  });
});

test("users can't change their address, not even to a free one; an administrator can", async () => {
  const account = await parley.register();
  const rest = createRest(parley, account);
  const strip = ({ request_id, instance, ...body }: Awaited<ReturnType<typeof rest.refused>>) => body;
  const [free, taken] = [newEmail(), owner.user.email];
  for (const proof of [{}, { current_password: TEST_PASSWORD }]) {
    const refusal = strip(await rest.refused("PATCH", "/me", { email: taken, ...proof }));
    expect(refusal).toMatchObject({ status: 403, code: "forbidden" });
    expect(strip(await rest.refused("PATCH", "/me", { email: free, ...proof }))).toEqual(refusal);
  }
  expect((await rest.request("PATCH", "/me", { display_name: "Fine" })).status).toBe(200);
  expect((await parley.admin.request("PATCH", `/users/${rest.id}`, { email: free })).status).toBe(200);
  expect((await parley.admin.refused("PATCH", `/users/${rest.id}`, { email: taken })).status).toBe(409);
});

test("an issuer's token reveals an account only if the issuer verified the address, and with a neutral error", async () => {
  const logInBy = async (claims: JWTPayload) => {
    const token = await issuer.sign(claims);
    const response = await parley.fetch("/api/v1/auth/oidc", { json: { token } });
    const { request_id, instance, ...body } = (await response.json()) as Record<string, unknown>;
    return { status: response.status, body };
  };
  for (const email_verified of [undefined, false, "false"]) {
    const taken = await logInBy({ email: owner.user.email, email_verified });
    expect(taken).toEqual(await logInBy({ email: newEmail(), email_verified }));
    expect(taken).toMatchObject({ status: 403, body: { code: "forbidden" } });
  }
  expect((await logInBy({ email: newEmail() })).status).toBe(200);
  const taken = await logInBy({ email: owner.user.email });
  expect(taken).toMatchObject({ status: 403, body: { code: "forbidden" } });
  expect(JSON.stringify(taken.body)).not.toContain("exists");
});

test("members can't be added by e-mail, unless the operator enables it", async () => {
  const rest = createRest(parley, await parley.register());
  const { body } = await rest.request<{ id: string }>("POST", "/conversations", {});
  for (const email of [owner.user.email, newEmail()])
    expect(await rest.refused("POST", `/conversations/${body.id}/members`, { email })).toMatchObject({ status: 403 });
});

test("many taken addresses from one client are delayed like wrong passwords, and free ones too", async () => {
  const statuses: number[] = [];
  for (let n = 0; n <= FREE_FAILURES && !statuses.includes(429); n += 8)
    statuses.push(
      ...(await Promise.all(Array.from({ length: 8 }, () => register(owner.user.email)))).map(({ status }) => status),
    );
  expect(statuses).toContain(429);
  const known = await register(owner.user.email);
  expect(known).toMatchObject({ status: 429, body: { code: "rate_limited" } });
});
