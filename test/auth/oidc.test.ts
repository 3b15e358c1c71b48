import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Tokens } from "../../src/modules/auth/model.ts";
import type { Identity } from "../../src/modules/auth/oidc/model.ts";
import { type Accounts, PASSWORD, readJson, readProblem, startAccounts } from "./start-accounts.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let issuer: Issuer;
let accounts: Accounts;
beforeAll(async () => {
  issuer = await startIssuer();
  accounts = await startAccounts({ registration: "open", issuer: createIssuerSettings() });
});
afterAll(async () => {
  await accounts.stop();
  await issuer.stop();
});

type Me = { id: string; email: string; display_name: string; role: string };
const createIssuerSettings = (isProvisioning = true) => ({
  issuer: issuer.url,
  audience: ["another-client", AUDIENCE],
  jwksUrl: undefined,
  isProvisioning,
});
const fetchMe = (token: string) => accounts.sendRequest("/me", { token });
const exchangeToken = (token: string) => accounts.sendRequest("/auth/oidc", { json: { token } });
const countUsers = async (email: string) =>
  Number((await accounts.database`select count(*) as n from users where email_key = ${email}`)[0]?.n);
const listAuditActions = async (userId: string) =>
  (await accounts.database`select action from audit_events where target_id = ${userId} order by id`).map(
    ({ action }) => action,
  );

describe("an issuer's token", () => {
  test("is valid as a credential, and creates the account when first used", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const user = await readJson<Me>(await fetchMe(token));
    expect(user).toMatchObject({ email: claims.email, display_name: "Ada of the Issuer", role: "user" });
    expect((await readJson<Me>(await fetchMe(token))).id).toBe(user.id);
    const newerToken = await issuer.sign({ ...claims, iat: Number(claims.iat) + 1 });
    expect((await readJson<Me>(await fetchMe(newerToken))).id).toBe(user.id);
    expect(await listAuditActions(user.id)).toEqual([
      "user.registered",
      "user.identity_linked",
      "user.logged_in",
      "user.logged_in",
    ]);
  });

  test("can be exchanged for a Parley session, which is refreshed like any other", async () => {
    const claims = issuer.createClaims();
    const response = await exchangeToken(await issuer.sign(claims));
    expect(response.status).toBe(200);
    expect(response.headers.get("cache-control")).toBe("no-store");
    const tokens = await readJson<Tokens>(response);
    expect(Object.keys(tokens).sort()).toEqual(["access_token", "expires_in", "refresh_token", "token_type", "user"]);
    expect(tokens.user).toMatchObject({ email: claims.email ?? "", disabled: false });
    expect((await fetchMe(tokens.access_token)).status).toBe(200);
    const refreshResponse = await accounts.sendRequest("/auth/refresh", {
      json: { refresh_token: tokens.refresh_token },
    });
    expect((await readJson<Tokens>(refreshResponse)).user.id).toBe(tokens.user.id);
    expect((await readJson<Me>(await fetchMe(await issuer.sign(claims)))).id).toBe(tokens.user.id);
  });

  test("can be signed with any common public-key algorithm", async () => {
    for (const alg of ["RS256", "PS256", "ES256", "ES384", "EdDSA"]) {
      const key = await issuer.addKey(alg);
      // The running instance doesn't fetch a new key before its cooldown ends.
      const newInstance = await startAccounts({ database: accounts.database, issuer: createIssuerSettings() });
      const response = await newInstance.sendRequest("/me", { token: await issuer.sign({}, { key }) });
      expect({ alg, status: response.status }).toEqual({ alg, status: 200 });
      await newInstance.stop();
    }
  });

  test("causes a single request for the keys even if many tokens arrive", async () => {
    const newInstance = await startAccounts({ database: accounts.database, issuer: createIssuerSettings() });
    const stateBefore = { ...issuer.state };
    const tokens = await Promise.all(Array.from({ length: 10 }, () => issuer.sign()));
    const responses = await Promise.all(
      [...tokens, ...tokens].map((token) => newInstance.sendRequest("/me", { token })),
    );
    expect(responses.map(({ status }) => status)).toEqual(Array.from({ length: 20 }, () => 200));
    expect(issuer.state.keyRequests - stateBefore.keyRequests).toBe(1);
    expect(issuer.state.discoveries - stateBefore.discoveries).toBe(1);
    await newInstance.stop();
  });

  test("creates a user named after the email address if the name can't be displayed", async () => {
    const claims = issuer.createClaims({ name: "Ada\u202eecalevoL" });
    const user = await readJson<Me>(await fetchMe(await issuer.sign(claims)));
    expect(user.display_name).toBe(claims.email?.toString().split("@")[0]?.slice(0, 80) ?? "");
    const namedUser = await readJson<Me>(
      await fetchMe(await issuer.sign({ name: "\u3164\u200b", preferred_username: "ada" })),
    );
    expect(namedUser.display_name).toBe("ada");
    const longNamedUser = await readJson<Me>(await fetchMe(await issuer.sign({ name: "x".repeat(500) })));
    expect(longNamedUser.display_name).toBe("x".repeat(80));
  });

  test("opens a single session even if it is used often", async () => {
    const token = await issuer.sign();
    await fetchMe(token);
    const sessionsBefore = await accounts.database`select count(*) as n from sessions`;
    const responses = await Promise.all(Array.from({ length: 30 }, () => fetchMe(token)));
    expect(responses.every(({ status }) => status === 200)).toBe(true);
    expect(await accounts.database`select count(*) as n from sessions`).toEqual(sessionsBefore);
  });
});

describe("many concurrent first requests", () => {
  test("create one account and one session for one token, even on two instances", async () => {
    const otherInstance = await startAccounts({ database: accounts.database, issuer: createIssuerSettings() });
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    const responses = await Promise.all(
      Array.from({ length: 24 }, (_, n) => (n % 2 ? accounts : otherInstance).sendRequest("/me", { token })),
    );
    expect(new Set(responses.map(({ status }) => status))).toEqual(new Set([200]));
    const ids = await Promise.all(responses.map(async (response) => (await readJson<Me>(response)).id));
    expect(new Set(ids).size).toBe(1);
    expect(await countUsers(String(claims.email))).toBe(1);
    expect((await accounts.database`select 1 from sessions where user_id = ${ids[0] ?? ""}`).length).toBe(1);
    expect(await listAuditActions(ids[0] ?? "")).toEqual(["user.registered", "user.identity_linked", "user.logged_in"]);
    await otherInstance.stop();
  });

  test("create one account for different tokens and logins of one user", async () => {
    const claims = issuer.createClaims();
    const tokens = await Promise.all(
      Array.from({ length: 12 }, (_, n) => issuer.sign({ ...claims, jti: `${n}`, email: `${n % 3}.${claims.email}` })),
    );
    const responses = await Promise.all(tokens.map((token, n) => (n % 2 ? exchangeToken(token) : fetchMe(token))));
    expect(responses.map(({ status }) => status)).toEqual(responses.map(() => 200));
    const rows = await accounts.database`select user_id from identities where subject = ${String(claims.sub)}`;
    expect(rows.length).toBe(1);
    const users = await accounts.database`select 1 from users where email_key like ${`%${claims.email}`}`;
    expect(users.length).toBe(1);
  });
});

describe("an issuer's identity with a registered email address", () => {
  test("doesn't give access to the existing account, even if the issuer has verified the email address", async () => {
    const localAccount = await accounts.register();
    const token = await issuer.sign({ email: localAccount.user.email.toUpperCase(), email_verified: true });
    for (const response of [await fetchMe(token), await exchangeToken(token)])
      expect(await readProblem(response)).toEqual({ status: 409, code: "conflict" });
    expect((await fetchMe(localAccount.access_token)).status).toBe(200);
    expect((await accounts.login(localAccount.user.email)).user.id).toBe(localAccount.user.id);
    expect((await accounts.database`select 1 from identities where user_id = ${localAccount.user.id}`).length).toBe(0);
  });

  test("can be linked by the account's owner with the password", async () => {
    const localAccount = await accounts.register();
    const claims = issuer.createClaims({ email: localAccount.user.email });
    const token = await issuer.sign(claims);
    const linkIdentity = (json: unknown) =>
      accounts.sendRequest("/me/identities", { token: localAccount.access_token, json });
    expect(await readProblem(await linkIdentity({ token, password: "not the password" }))).toEqual({
      status: 403,
      code: "forbidden",
    });
    expect(await readProblem(await linkIdentity({ token: "ey.no.token", password: PASSWORD }))).toEqual({
      status: 422,
      code: "invalid",
    });
    const linkResponse = await linkIdentity({ token, password: PASSWORD });
    expect(linkResponse.status).toBe(201);
    const identity = await readJson<Identity>(linkResponse);
    expect(identity).toEqual({
      id: expect.any(String),
      issuer: issuer.url,
      subject: String(claims.sub),
      created_at: expect.any(String),
    });
    expect((await readJson<Me>(await fetchMe(token))).id).toBe(localAccount.user.id);
    expect((await readJson<Tokens>(await exchangeToken(token))).user.id).toBe(localAccount.user.id);
    expect((await readJson<Identity>(await linkIdentity({ token, password: PASSWORD }))).id).toBe(identity.id);
    expect(await listAuditActions(localAccount.user.id)).toContain("user.identity_linked");

    const outsider = await accounts.register();
    const linkAttempt = await accounts.sendRequest("/me/identities", {
      token: outsider.access_token,
      json: { token, password: PASSWORD },
    });
    expect(await readProblem(linkAttempt)).toEqual({ status: 409, code: "conflict" });
    const identities = await accounts.sendRequest("/me/identities", { token: outsider.access_token });
    expect(await readJson<unknown>(identities)).toEqual({ data: [], next_cursor: null });
    const unlinkAttempt = await accounts.sendRequest(`/me/identities/${identity.id}`, {
      token: outsider.access_token,
      method: "DELETE",
    });
    expect(await readProblem(unlinkAttempt)).toEqual({ status: 404, code: "not_found" });
    expect((await fetchMe(token)).status).toBe(200);
  });

  test("can be unlinked, which revokes the sessions opened with its tokens", async () => {
    const localAccount = await accounts.register();
    const claims = issuer.createClaims({ email: localAccount.user.email });
    const token = await issuer.sign(claims);
    const linkResponse = await accounts.sendRequest("/me/identities", {
      token: localAccount.access_token,
      json: { token, password: PASSWORD },
    });
    const { id } = await readJson<Identity>(linkResponse);
    const exchangedTokens = await readJson<Tokens>(await exchangeToken(token));
    expect((await fetchMe(token)).status).toBe(200);
    const unlinkResponse = await accounts.sendRequest(`/me/identities/${id}`, {
      token: localAccount.access_token,
      method: "DELETE",
    });
    expect(unlinkResponse.status).toBe(204);
    for (const revokedToken of [token, exchangedTokens.access_token])
      expect(await readProblem(await fetchMe(revokedToken))).toEqual({ status: 401, code: "unauthorized" });
    expect((await fetchMe(localAccount.access_token)).status).toBe(200);
    expect(await listAuditActions(localAccount.user.id)).toContain("user.identity_unlinked");
  });

  test("can't be used to log in while it is being unlinked", async () => {
    const localAccount = await accounts.register();
    const token = await issuer.sign(issuer.createClaims({ email: localAccount.user.email }));
    await accounts.sendRequest("/me/identities", {
      token: localAccount.access_token,
      json: { token, password: PASSWORD },
    });
    const requests: Promise<Response>[] = [];
    await accounts.database.begin(async (sql) => {
      await sql`select 1 from users where id = ${localAccount.user.id} for update`;
      requests.push(exchangeToken(token), fetchMe(token));
      const findWaiting = () => accounts.database`
        select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`;
      // One request waits for the row lock, and the other is queued behind it.
      while ((await findWaiting()).length === 0) await Bun.sleep(5);
      await sql`delete from identities where user_id = ${localAccount.user.id}`;
    });
    for (const response of requests)
      expect(await readProblem(await response)).toEqual({ status: 401, code: "unauthorized" });
  });

  test("can't be unlinked if it is the only login method", async () => {
    const token = await issuer.sign();
    const page = await readJson<{ data: Identity[] }>(await accounts.sendRequest("/me/identities", { token }));
    const unlinkResponse = await accounts.sendRequest(`/me/identities/${page.data[0]?.id}`, {
      token,
      method: "DELETE",
    });
    expect(await readProblem(unlinkResponse)).toEqual({ status: 409, code: "conflict" });
  });

  test("can't be linked if the account already has 20 identities", async () => {
    const localAccount = await accounts.register();
    for (let n = 0; n < 20; n++)
      await accounts.database`
        insert into identities (id, issuer, subject, user_id)
        values (${crypto.randomUUID()}, ${issuer.url}, ${`${localAccount.user.id}-${n}`}, ${localAccount.user.id})`;
    const json = { token: await issuer.sign(), password: PASSWORD };
    expect(
      await readProblem(await accounts.sendRequest("/me/identities", { token: localAccount.access_token, json })),
    ).toEqual({
      status: 409,
      code: "conflict",
    });
  });
});

describe("an account without a password", () => {
  test("can't log in with a password or change it, and doesn't reveal that it has no password", async () => {
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    await fetchMe(token);
    for (const password of ["null", "undefined", PASSWORD])
      expect(
        await readProblem(await accounts.sendRequest("/auth/login", { json: { email: claims.email, password } })),
      ).toEqual({ status: 401, code: "invalid_credentials" });
    const passwordChange = { current_password: "null", new_password: "a new password" };
    expect(await readProblem(await accounts.sendRequest("/me/password", { token, json: passwordChange }))).toEqual({
      status: 403,
      code: "forbidden",
    });
    const otherToken = await issuer.sign();
    const linkResponse = await accounts.sendRequest("/me/identities", {
      token,
      json: { token: otherToken, password: "null" },
    });
    expect(await readProblem(linkResponse)).toEqual({ status: 403, code: "forbidden" });
  });
});

describe("OIDC_PROVISION=off", () => {
  test("creates no accounts", async () => {
    const instanceWithoutProvisioning = await startAccounts({
      database: accounts.database,
      issuer: createIssuerSettings(false),
    });
    const claims = issuer.createClaims();
    const token = await issuer.sign(claims);
    expect(await readProblem(await instanceWithoutProvisioning.sendRequest("/me", { token }))).toEqual({
      status: 403,
      code: "registration_closed",
    });
    expect(await readProblem(await instanceWithoutProvisioning.sendRequest("/auth/oidc", { json: { token } }))).toEqual(
      {
        status: 403,
        code: "registration_closed",
      },
    );
    expect(await countUsers(String(claims.email))).toBe(0);
    expect((await fetchMe(token)).status).toBe(200);
    expect((await instanceWithoutProvisioning.sendRequest("/me", { token })).status).toBe(200);
    await instanceWithoutProvisioning.stop();
  });

  test("isn't implied by REGISTRATION=closed", async () => {
    const closedInstance = await startAccounts({
      database: accounts.database,
      registration: "closed",
      issuer: createIssuerSettings(),
    });
    expect((await closedInstance.sendRequest("/auth/oidc", { json: { token: await issuer.sign() } })).status).toBe(200);
    await closedInstance.stop();
  });
});

test("without an issuer, the OIDC routes don't exist", async () => {
  const instanceWithoutIssuer = await startAccounts({ database: accounts.database });
  const token = await issuer.sign();
  expect(await readProblem(await instanceWithoutIssuer.sendRequest("/auth/oidc", { json: { token } }))).toEqual({
    status: 404,
    code: "not_found",
  });
  expect(await readProblem(await instanceWithoutIssuer.sendRequest("/me", { token }))).toEqual({
    status: 401,
    code: "unauthorized",
  });
  await instanceWithoutIssuer.stop();
});
