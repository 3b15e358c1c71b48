import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Member } from "../../src/protocol/conversation.ts";
import { parseLimitHeader } from "../limits/headers.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { advanceClock, resetClock } from "../support/clock.ts";
import { createConversation } from "../support/conversation.ts";
import { createRest, type Rest } from "../support/rest.ts";

const FREE_ATTEMPTS = 3;
let parley: TestApp;
let owner: Rest;
let path: string;
beforeAll(async () => {
  parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_LOGIN_FAILURES: String(FREE_ATTEMPTS) } });
});
beforeEach(async () => {
  owner = createRest(parley, await parley.register());
  path = `/conversations/${(await createConversation(parley, owner.account)).id}/members`;
});
afterEach(resetClock);
afterAll(() => parley.stop());

const add = (email: string, by: Rest = owner) => by.request<Member & { code?: string }>("POST", path, { email });
const unknown = () => `${createId()}@example.com`;
const idsOf = async () => (await owner.all<Member>(path, 10)).rows.map(({ user_id }) => user_id).sort();

describe("adding a member by e-mail", () => {
  test("works as adding by id, with the address in any case", async () => {
    const ben = await parley.register(`Ben.${createId()}@Example.com`, "Ben");
    const { status, body } = await owner.request<Member>("POST", path, {
      email: ` ${ben.user.email.toUpperCase()} `,
      role: "viewer",
    });
    expect(status).toBe(201);
    expect(body).toEqual({
      user_id: ben.user.id,
      display_name: "Ben",
      role: "viewer",
      last_read_seq: 0,
      joined_at: expect.any(String),
    });
    expect((await createRest(parley, ben).get(path)).status).toBe(200);
    // Again: changes the member's role.
    expect((await add(ben.user.email)).body.role).toBe("member");
    expect(await idsOf()).toEqual([owner.id, ben.user.id].sort());
  });

  test("is 404 if the address is unknown, if the user is disabled, and for a similar address", async () => {
    const ben = await parley.register();
    const gone = await parley.register();
    await parley.database`update users set disabled_at = now() where id = ${gone.user.id}`;
    const { instance: _, request_id: __, ...none } = await owner.refused("POST", path, { email: unknown() });
    expect(none).toMatchObject({ status: 404, code: "not_found" });
    const {
      instance: ___,
      request_id: ____,
      ...disabled
    } = await owner.refused("POST", path, {
      email: gone.user.email,
    });
    expect(disabled).toEqual(none);
    const other = createRest(parley, await parley.register());
    path = `/conversations/${(await createConversation(parley, other.account)).id}/members`;
    expect((await add(ben.user.email.slice(1), other)).status).toBe(404);
    expect((await add(`%${ben.user.email.slice(1)}`, other)).status).toBe(404);
    // Deleted users have their id as address.
    expect((await other.refused("POST", path, { email: ben.user.id })).status).toBe(422);
  });

  test("accepts either an id or an address", async () => {
    const { user } = await parley.register();
    const both = await owner.refused("POST", path, { email: user.email, user_id: user.id });
    expect(both).toMatchObject({ status: 422, errors: [{ pointer: "#/email" }] });
    for (const email of ["", "nobody", null, 1, ["a@example.com"]])
      expect(await owner.refused("POST", path, { email })).toMatchObject({ status: 422 });
    expect(await idsOf()).toEqual([owner.id]);
  });

  test("is looked up for owners only: others get the same response for every address, and nothing is counted", async () => {
    const { user } = await parley.register();
    const outsider = createRest(parley, await parley.register());
    const member = createRest(parley, await parley.register());
    await owner.request("POST", path, { user_id: member.id });
    for (let n = 0; n < FREE_ATTEMPTS + 2; n += 1)
      for (const email of [user.email, unknown()]) {
        expect(await outsider.refused("POST", path, { email })).toMatchObject({ status: 404, code: "not_found" });
        expect(await member.refused("POST", path, { email })).toMatchObject({ status: 403, code: "forbidden" });
        expect((await parley.fetch(`/api/v1${path}`, { json: { email } })).status).toBe(401);
      }
    const reading = await owner.request<{ key: string }>("POST", "/api-keys", {
      name: "k",
      scopes: ["conversations:read"],
    });
    const machine = createRest(parley, { ...owner.account, access_token: reading.body.key });
    expect((await add(user.email, machine)).status).toBe(403);
    expect(await idsOf()).toEqual([owner.id, member.id].sort());
  });
});

describe("addresses without an account", () => {
  test("are rate-limited like wrong passwords, from the fourth on, with the policy's name", async () => {
    for (let n = 0; n < FREE_ATTEMPTS; n += 1) expect((await add(unknown())).status).toBe(404);
    const { user } = await parley.register();
    const refused = await add(user.email);
    expect(refused).toMatchObject({ status: 429, body: { code: "rate_limited" } });
    expect(refused.headers.get("retry-after")).toBe("1");
    expect(parseLimitHeader(refused.headers.get("ratelimit"))).toEqual({
      lookup_account_and_address: { r: 0, t: 1 },
    });
    expect(parseLimitHeader(refused.headers.get("ratelimit-policy"))).toEqual({
      lookup_account_and_address: { q: FREE_ATTEMPTS, w: 3_600 },
    });
    // Adding by id still works, and other callers aren't limited.
    expect((await owner.request("POST", path, { user_id: user.id })).status).toBe(201);
    advanceClock(1_010);
    expect((await add(unknown())).status).toBe(404);
    expect((await add(user.email)).status).toBe(429);
  });

  test("a known address in between doesn't reset the limit", async () => {
    const { user } = await parley.register();
    for (let n = 0; n < FREE_ATTEMPTS; n += 1) {
      expect((await add(user.email)).status).toBe(201);
      expect((await add(unknown())).status).toBe(404);
    }
    expect((await add(unknown())).status).toBe(429);
  });

  test("concurrent requests can't exceed the limit", async () => {
    const { user } = await parley.register();
    const all = await Promise.all([
      ...Array.from({ length: 12 }, () => add(unknown())),
      ...Array.from({ length: 12 }, () => add(user.email)),
    ]);
    const count = (status: number) => all.filter((answer) => answer.status === status).length;
    expect(count(404)).toBeLessThanOrEqual(FREE_ATTEMPTS);
    expect(count(404) + count(429) + count(201)).toBe(24);
  });

  test("don't lock logins", async () => {
    for (let n = 0; n <= FREE_ATTEMPTS; n += 1) await add(unknown());
    const json = { email: owner.account.user.email, password: "correct horse battery" };
    expect((await parley.fetch("/api/v1/auth/login", { json })).status).toBe(200);
  });
});

test("MEMBER_BY_EMAIL=off rejects every address alike; adding by id still works", async () => {
  const closed = await startApp({ config: { MEMBER_BY_EMAIL: "off" } });
  try {
    const rest = createRest(closed, await closed.register());
    const { user } = await closed.register();
    const members = `/conversations/${(await createConversation(closed, rest.account)).id}/members`;
    for (const email of [user.email, unknown()])
      expect(await rest.refused("POST", members, { email })).toMatchObject({ status: 403, code: "forbidden" });
    const outsider = createRest(closed, await closed.register());
    expect(await outsider.refused("POST", members, { email: user.email })).toMatchObject({ status: 404 });
    expect((await rest.request("POST", members, { user_id: user.id })).status).toBe(201);
  } finally {
    await closed.stop();
  }
});
