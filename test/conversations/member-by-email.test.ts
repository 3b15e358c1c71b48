import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { Member } from "../../src/protocol/conversation.ts";
import { parseLimitHeader } from "../limits/headers.ts";
import { startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";

const ATTEMPTS_MAX = 3;
let parley: TestApp;
let owner: RestClient;
let path: string;
beforeAll(async () => {
  parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", RATE_LIMIT_LOGIN_FAILURES: String(ATTEMPTS_MAX) } });
});
beforeEach(async () => {
  owner = createRestClient(parley, await parley.register());
  path = `/conversations/${(await createConversation(parley, owner.account)).id}/members`;
});
afterEach(resetClock);
afterAll(() => parley.stop());

const addByEmail = (email: string, caller: RestClient = owner) =>
  caller.request<Member & { code?: string }>("POST", path, { email });
const createUnknownEmail = () => `${createId()}@example.com`;
const listMemberIds = async () => (await owner.listAll<Member>(path, 10)).rows.map(({ user_id }) => user_id).sort();

describe("adding a member by email address", () => {
  test("works like adding by id, and ignores the case of the email address", async () => {
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
    expect((await createRestClient(parley, ben).get(path)).status).toBe(200);
    // Adding a member again changes the role.
    expect((await addByEmail(ben.user.email)).body.role).toBe("member");
    expect(await listMemberIds()).toEqual([owner.id, ben.user.id].sort());
  });

  test("returns 404 if the email address is unknown or the user is disabled", async () => {
    const ben = await parley.register();
    const disabledUser = await parley.register();
    await parley.database`update users set disabled_at = now() where id = ${disabledUser.user.id}`;
    const requestProblem = async (email: string) => {
      const { instance: _, request_id: __, ...problem } = await owner.requestProblem("POST", path, { email });
      return problem;
    };
    const unknownProblem = await requestProblem(createUnknownEmail());
    expect(unknownProblem).toMatchObject({ status: 404, code: "not_found" });
    expect(await requestProblem(disabledUser.user.email)).toEqual(unknownProblem);
    const otherOwner = createRestClient(parley, await parley.register());
    path = `/conversations/${(await createConversation(parley, otherOwner.account)).id}/members`;
    expect((await addByEmail(ben.user.email.slice(1), otherOwner)).status).toBe(404);
    expect((await addByEmail(`%${ben.user.email.slice(1)}`, otherOwner)).status).toBe(404);
    // A deleted user's email address is replaced by the user's id.
    expect((await otherOwner.requestProblem("POST", path, { email: ben.user.id })).status).toBe(422);
  });

  test("can't be combined with an id", async () => {
    const { user } = await parley.register();
    const problem = await owner.requestProblem("POST", path, { email: user.email, user_id: user.id });
    expect(problem).toMatchObject({ status: 422, errors: [{ pointer: "#/email" }] });
    for (const email of ["", "nobody", null, 1, ["a@example.com"]])
      expect(await owner.requestProblem("POST", path, { email })).toMatchObject({ status: 422 });
    expect(await listMemberIds()).toEqual([owner.id]);
  });

  test("returns the same error for every email address if the caller isn't an owner", async () => {
    const { user } = await parley.register();
    const outsider = createRestClient(parley, await parley.register());
    const member = createRestClient(parley, await parley.register());
    await owner.request("POST", path, { user_id: member.id });
    for (let n = 0; n < ATTEMPTS_MAX + 2; n += 1)
      for (const email of [user.email, createUnknownEmail()]) {
        expect(await outsider.requestProblem("POST", path, { email })).toMatchObject({
          status: 404,
          code: "not_found",
        });
        expect(await member.requestProblem("POST", path, { email })).toMatchObject({ status: 403, code: "forbidden" });
        expect((await parley.fetch(`/api/v1${path}`, { json: { email } })).status).toBe(401);
      }
    const readKey = await owner.request<{ key: string }>("POST", "/api-keys", {
      name: "k",
      scopes: ["conversations:read"],
    });
    const keyRest = createRestClient(parley, { ...owner.account, access_token: readKey.body.key });
    expect((await addByEmail(user.email, keyRest)).status).toBe(403);
    expect(await listMemberIds()).toEqual([owner.id, member.id].sort());
  });
});

describe("requests with unknown email addresses", () => {
  test("are rate-limited like wrong passwords", async () => {
    for (let n = 0; n < ATTEMPTS_MAX; n += 1) expect((await addByEmail(createUnknownEmail())).status).toBe(404);
    const { user } = await parley.register();
    const response = await addByEmail(user.email);
    expect(response).toMatchObject({ status: 429, body: { code: "rate_limited" } });
    expect(response.headers.get("retry-after")).toBe("1");
    expect(parseLimitHeader(response.headers.get("ratelimit"))).toEqual({
      lookup_account_and_address: { r: 0, t: 1 },
    });
    expect(parseLimitHeader(response.headers.get("ratelimit-policy"))).toEqual({
      lookup_account_and_address: { q: ATTEMPTS_MAX, w: 3_600 },
    });
    // Adding by id still works, and other callers aren't limited.
    expect((await owner.request("POST", path, { user_id: user.id })).status).toBe(201);
    advanceClock(1_010);
    expect((await addByEmail(createUnknownEmail())).status).toBe(404);
    expect((await addByEmail(user.email)).status).toBe(429);
  });

  test("still count towards the limit if known email addresses are added in between", async () => {
    const { user } = await parley.register();
    for (let n = 0; n < ATTEMPTS_MAX; n += 1) {
      expect((await addByEmail(user.email)).status).toBe(201);
      expect((await addByEmail(createUnknownEmail())).status).toBe(404);
    }
    expect((await addByEmail(createUnknownEmail())).status).toBe(429);
  });

  test("can't exceed the limit even if they are concurrent", async () => {
    const { user } = await parley.register();
    const responses = await Promise.all([
      ...Array.from({ length: 12 }, () => addByEmail(createUnknownEmail())),
      ...Array.from({ length: 12 }, () => addByEmail(user.email)),
    ]);
    const countResponses = (status: number) => responses.filter((response) => response.status === status).length;
    expect(countResponses(404)).toBeLessThanOrEqual(ATTEMPTS_MAX);
    expect(countResponses(404) + countResponses(429) + countResponses(201)).toBe(24);
  });

  test("don't affect logins", async () => {
    for (let n = 0; n <= ATTEMPTS_MAX; n += 1) await addByEmail(createUnknownEmail());
    const json = { email: owner.account.user.email, password: "correct horse battery" };
    expect((await parley.fetch("/api/v1/auth/login", { json })).status).toBe(200);
  });
});

test("MEMBER_BY_EMAIL=off rejects every email address with the same error", async () => {
  const app = await startApp({ config: { MEMBER_BY_EMAIL: "off" } });
  try {
    const rest = createRestClient(app, await app.register());
    const { user } = await app.register();
    const membersPath = `/conversations/${(await createConversation(app, rest.account)).id}/members`;
    for (const email of [user.email, createUnknownEmail()])
      expect(await rest.requestProblem("POST", membersPath, { email })).toMatchObject({
        status: 403,
        code: "forbidden",
      });
    const outsider = createRestClient(app, await app.register());
    expect(await outsider.requestProblem("POST", membersPath, { email: user.email })).toMatchObject({ status: 404 });
    expect((await rest.request("POST", membersPath, { user_id: user.id })).status).toBe(201);
  } finally {
    await app.stop();
  }
});
