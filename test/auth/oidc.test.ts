import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Tokens } from "../../src/modules/auth/model.ts";
import type { Identity } from "../../src/modules/auth/oidc/model.ts";
import { type Accounts, PASSWORD, readJson, readProblem, startAccounts } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let issuer: Issuer;
let accounts: Accounts;
beforeAll(async () => {
  issuer = await startIssuer();
  accounts = await startAccounts({ registration: "open", issuer: createOptions() });
});
afterAll(async () => {
  await accounts.stop();
  await issuer.stop();
});

type Me = { id: string; email: string; display_name: string; role: string };
const createOptions = (isProvisioning = true) => ({
  issuer: issuer.url,
  audience: ["another-client", AUDIENCE],
  jwksUrl: undefined,
  isProvisioning,
});
const me = (token: string) => accounts.call("/me", { token });
const login = (token: string) => accounts.call("/auth/oidc", { json: { token } });
const countUsers = async (email: string) =>
  Number((await accounts.database`select count(*) as n from users where email_key = ${email}`)[0]?.n);
const listActions = async (userId: string) =>
  (await accounts.database`select action from audit_events where target_id = ${userId} order by id`).map(
    ({ action }) => action,
  );

describe("a token of the issuer", () => {
  test("works as a credential, and creates the account at its first use", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const first = await readJson<Me>(await me(token));
    expect(first).toMatchObject({ email: claims.email, display_name: "Ada of the Issuer", role: "user" });
    expect((await readJson<Me>(await me(token))).id).toBe(first.id);
    const next = await issuer.sign({ ...claims, iat: Number(claims.iat) + 1 });
    expect((await readJson<Me>(await me(next))).id).toBe(first.id);
    expect(await listActions(first.id)).toEqual([
      "user.registered",
      "user.identity_linked",
      "user.logged_in",
      "user.logged_in",
    ]);
  });

  test("can be exchanged for a Parley session, which is refreshed like any other", async () => {
    const claims = issuer.createClaims();
    const answer = await login(await issuer.sign(claims));
    expect(answer.status).toBe(200);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const tokens = await readJson<Tokens>(answer);
    expect(Object.keys(tokens).sort()).toEqual(["access_token", "expires_in", "refresh_token", "token_type", "user"]);
    expect(tokens.user).toMatchObject({ email: claims.email ?? "", disabled: false });
    expect((await me(tokens.access_token)).status).toBe(200);
    const refreshed = await accounts.call("/auth/refresh", { json: { refresh_token: tokens.refresh_token } });
    expect((await readJson<Tokens>(refreshed)).user.id).toBe(tokens.user.id);
    expect((await readJson<Me>(await me(await issuer.sign(claims)))).id).toBe(tokens.user.id);
  });

  test("may be signed with any usual public-key algorithm", async () => {
    for (const alg of ["RS256", "PS256", "ES256", "ES384", "EdDSA"]) {
      const key = await issuer.addKey(alg);
      // The keys are new: the cooldown would hide them from the running service.
      const fresh = await startAccounts({ database: accounts.database, issuer: createOptions() });
      const answer = await fresh.call("/me", { token: await issuer.sign({}, { key }) });
      expect({ alg, status: answer.status }).toEqual({ alg, status: 200 });
      await fresh.stop();
    }
  });

  test("causes one request for the keys, however many tokens arrive", async () => {
    const fresh = await startAccounts({ database: accounts.database, issuer: createOptions() });
    const before = { ...issuer.state };
    const tokens = await Promise.all(Array.from({ length: 10 }, () => issuer.sign()));
    const answers = await Promise.all([...tokens, ...tokens].map((token) => fresh.call("/me", { token })));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(issuer.state.keyRequests - before.keyRequests).toBe(1);
    expect(issuer.state.discoveries - before.discoveries).toBe(1);
    await fresh.stop();
  });

  test("falls back to the address if the name can't be displayed", async () => {
    const claims = issuer.createClaims({ name: "Ada\u202eecalevoL" });
    const found = await readJson<Me>(await me(await issuer.sign(claims)));
    expect(found.display_name).toBe(claims.email?.toString().split("@")[0]?.slice(0, 80) ?? "");
    const named = await readJson<Me>(await me(await issuer.sign({ name: "\u3164\u200b", preferred_username: "ada" })));
    expect(named.display_name).toBe("ada");
    const long = await readJson<Me>(await me(await issuer.sign({ name: "x".repeat(500) })));
    expect(long.display_name).toBe("x".repeat(80));
  });

  test("opens one session, however often it is used", async () => {
    const token = await issuer.sign();
    await me(token);
    const before = await accounts.database`select count(*) as n from sessions`;
    const answers = await Promise.all(Array.from({ length: 30 }, () => me(token)));
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    expect(await accounts.database`select count(*) as n from sessions`).toEqual(before);
  });
});

describe("many concurrent first requests", () => {
  test("create one account and one session for one token, also on two instances", async () => {
    const other = await startAccounts({ database: accounts.database, issuer: createOptions() });
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const answers = await Promise.all(
      Array.from({ length: 24 }, (_, n) => (n % 2 ? accounts : other).call("/me", { token })),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    const ids = await Promise.all(answers.map(async (answer) => (await readJson<Me>(answer)).id));
    expect(new Set(ids).size).toBe(1);
    expect(await countUsers(String(claims.email))).toBe(1);
    expect((await accounts.database`select 1 from sessions where user_id = ${ids[0] ?? ""}`).length).toBe(1);
    expect(await listActions(ids[0] ?? "")).toEqual(["user.registered", "user.identity_linked", "user.logged_in"]);
    await other.stop();
  });

  test("with different tokens and logins of one user create one account", async () => {
    const claims = issuer.createClaims();
    const tokens = await Promise.all(
      Array.from({ length: 12 }, (_, n) => issuer.sign({ ...claims, jti: `${n}`, email: `${n % 3}.${claims.email}` })),
    );
    const answers = await Promise.all(tokens.map((token, n) => (n % 2 ? login(token) : me(token))));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    const rows = await accounts.database`select user_id from identities where subject = ${String(claims.sub)}`;
    expect(rows.length).toBe(1);
    const made = await accounts.database`select 1 from users where email_key like ${`%${claims.email}`}`;
    expect(made.length).toBe(1);
  });
});

describe("an address that is already registered", () => {
  test("is never taken over: not with a verified address, not through any route", async () => {
    const local = await accounts.register();
    const token = await issuer.sign({ email: local.user.email.toUpperCase(), email_verified: true });
    for (const answer of [await me(token), await login(token)])
      expect(await readProblem(answer)).toEqual({ status: 409, code: "conflict" });
    expect((await me(local.access_token)).status).toBe(200);
    expect((await accounts.login(local.user.email)).user.id).toBe(local.user.id);
    expect((await accounts.database`select 1 from identities where user_id = ${local.user.id}`).length).toBe(0);
  });

  test("can be linked by its owner, with the password", async () => {
    const local = await accounts.register();
    const claims = issuer.createClaims({ email: local.user.email });
    const token = await issuer.sign(claims);
    const link = (json: unknown) => accounts.call("/me/identities", { token: local.access_token, json });
    expect(await readProblem(await link({ token, password: "not the password" }))).toEqual({
      status: 403,
      code: "forbidden",
    });
    expect(await readProblem(await link({ token: "ey.no.token", password: PASSWORD }))).toEqual({
      status: 422,
      code: "invalid",
    });
    const linked = await link({ token, password: PASSWORD });
    expect(linked.status).toBe(201);
    const identity = await readJson<Identity>(linked);
    expect(identity).toEqual({
      id: expect.any(String),
      issuer: issuer.url,
      subject: String(claims.sub),
      created_at: expect.any(String),
    });
    expect((await readJson<Me>(await me(token))).id).toBe(local.user.id);
    expect((await readJson<Tokens>(await login(token))).user.id).toBe(local.user.id);
    expect((await readJson<Identity>(await link({ token, password: PASSWORD }))).id).toBe(identity.id);
    expect(await listActions(local.user.id)).toContain("user.identity_linked");

    const outsider = await accounts.register();
    const theft = await accounts.call("/me/identities", {
      token: outsider.access_token,
      json: { token, password: PASSWORD },
    });
    expect(await readProblem(theft)).toEqual({ status: 409, code: "conflict" });
    const seen = await accounts.call("/me/identities", { token: outsider.access_token });
    expect(await readJson<unknown>(seen)).toEqual({ data: [], next_cursor: null });
    const taken = await accounts.call(`/me/identities/${identity.id}`, {
      token: outsider.access_token,
      method: "DELETE",
    });
    expect(await readProblem(taken)).toEqual({ status: 404, code: "not_found" });
    expect((await me(token)).status).toBe(200);
  });

  test("can be unlinked, which ends sessions opened with the issuer's tokens", async () => {
    const local = await accounts.register();
    const claims = issuer.createClaims({ email: local.user.email });
    const token = await issuer.sign(claims);
    const linked = await accounts.call("/me/identities", {
      token: local.access_token,
      json: { token, password: PASSWORD },
    });
    const { id } = await readJson<Identity>(linked);
    const exchanged = await readJson<Tokens>(await login(token));
    expect((await me(token)).status).toBe(200);
    const unlinked = await accounts.call(`/me/identities/${id}`, { token: local.access_token, method: "DELETE" });
    expect(unlinked.status).toBe(204);
    for (const ended of [token, exchanged.access_token])
      expect(await readProblem(await me(ended))).toEqual({ status: 401, code: "unauthorized" });
    expect((await me(local.access_token)).status).toBe(200);
    expect(await listActions(local.user.id)).toContain("user.identity_unlinked");
  });

  test("can't be used with a token while it is being unlinked", async () => {
    const local = await accounts.register();
    const token = await issuer.sign(issuer.createClaims({ email: local.user.email }));
    await accounts.call("/me/identities", { token: local.access_token, json: { token, password: PASSWORD } });
    const late: Promise<Response>[] = [];
    await accounts.database.begin(async (sql) => {
      await sql`select 1 from users where id = ${local.user.id} for update`;
      late.push(login(token), me(token));
      const waiting = () => accounts.database`
        select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      // One waits for the row lock, the other is queued behind it.
      while ((await waiting()).length === 0) await Bun.sleep(5);
      await sql`delete from identities where user_id = ${local.user.id}`;
    });
    for (const answer of late) expect(await readProblem(await answer)).toEqual({ status: 401, code: "unauthorized" });
  });

  test("the only login method can't be unlinked", async () => {
    const token = await issuer.sign();
    const page = await readJson<{ data: Identity[] }>(await accounts.call("/me/identities", { token }));
    const unlink = await accounts.call(`/me/identities/${page.data[0]?.id}`, { token, method: "DELETE" });
    expect(await readProblem(unlink)).toEqual({ status: 409, code: "conflict" });
  });

  test("the number of identities per account is limited", async () => {
    const local = await accounts.register();
    for (let n = 0; n < 20; n++)
      await accounts.database`
        insert into identities (id, issuer, subject, user_id)
        values (${crypto.randomUUID()}, ${issuer.url}, ${`${local.user.id}-${n}`}, ${local.user.id})`;
    const json = { token: await issuer.sign(), password: PASSWORD };
    expect(await readProblem(await accounts.call("/me/identities", { token: local.access_token, json }))).toEqual({
      status: 409,
      code: "conflict",
    });
  });
});

describe("an account without a password", () => {
  test("can't log in with one or change it, and its absence isn't revealed", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    await me(token);
    for (const password of ["", "null", "undefined", PASSWORD].filter((text) => text !== ""))
      expect(
        await readProblem(await accounts.call("/auth/login", { json: { email: claims.email, password } })),
      ).toEqual({ status: 401, code: "invalid_credentials" });
    const change = { current_password: "null", new_password: "a new password" };
    expect(await readProblem(await accounts.call("/me/password", { token, json: change }))).toEqual({
      status: 403,
      code: "forbidden",
    });
    const other = await issuer.sign();
    const link = await accounts.call("/me/identities", { token, json: { token: other, password: "null" } });
    expect(await readProblem(link)).toEqual({ status: 403, code: "forbidden" });
  });
});

describe("OIDC_PROVISION=off", () => {
  test("only accepts linked users", async () => {
    const strict = await startAccounts({ database: accounts.database, issuer: createOptions(false) });
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    expect(await readProblem(await strict.call("/me", { token }))).toEqual({
      status: 403,
      code: "registration_closed",
    });
    expect(await readProblem(await strict.call("/auth/oidc", { json: { token } }))).toEqual({
      status: 403,
      code: "registration_closed",
    });
    expect(await countUsers(String(claims.email))).toBe(0);
    expect((await me(token)).status).toBe(200);
    expect((await strict.call("/me", { token })).status).toBe(200);
    await strict.stop();
  });

  test("and REGISTRATION=closed alone doesn't affect the issuer's users", async () => {
    const closed = await startAccounts({
      database: accounts.database,
      registration: "closed",
      issuer: createOptions(),
    });
    expect((await closed.call("/auth/oidc", { json: { token: await issuer.sign() } })).status).toBe(200);
    await closed.stop();
  });
});

test("without an issuer, its routes don't exist", async () => {
  const plain = await startAccounts({ database: accounts.database });
  const token = await issuer.sign();
  expect(await readProblem(await plain.call("/auth/oidc", { json: { token } }))).toEqual({
    status: 404,
    code: "not_found",
  });
  expect(await readProblem(await plain.call("/me", { token }))).toEqual({ status: 401, code: "unauthorized" });
  await plain.stop();
});
