import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createRestClient, type RestClient } from "../support/rest.ts";
import { AUDIENCE, type Issuer, startIssuer } from "./start-issuer.ts";

let parley: TestApp;
let issuer: Issuer;
beforeAll(async () => {
  issuer = await startIssuer();
  parley = await startApp({ config: { OIDC_ISSUER: issuer.url, OIDC_AUDIENCE: AUDIENCE } });
});
afterAll(async () => {
  await parley.stop();
  await issuer.stop();
});

let emailCount = 0;
const createEmail = () => `moved-${++emailCount}@example.com`;
const reauthenticationRequired = { status: 403, code: "reauthentication_required" };
const getNowS = () => Math.floor(Date.now() / 1_000);

/** Operations that change or delete the account itself. */
const operations: Record<string, (rest: RestClient, proof?: object) => ReturnType<RestClient["request"]>> = {
  "changing the email address": (rest, proof) => rest.request("PATCH", "/me", { email: createEmail(), ...proof }),
  "deleting the account": (rest, proof) => rest.request("DELETE", "/me", proof),
};
const backdateSessions = (id: string, seconds = 301) =>
  parley.database`
    update sessions set created_at = created_at - make_interval(secs => ${seconds}),
      authenticated_at = authenticated_at - make_interval(secs => ${seconds}) where user_id = ${id}`;
async function registerWithOldLogin(): Promise<RestClient> {
  const account = await parley.register();
  await backdateSessions(account.user.id);
  return createRestClient(parley, account);
}
const isEmailUnchanged = async (rest: RestClient) =>
  (await rest.get<{ email: string }>("/me")).body.email === rest.account.user.email;

describe.each(Object.keys(operations))("%s", (name) => {
  const performOperation = (rest: RestClient, proof?: object) =>
    operations[name]?.(rest, proof) as ReturnType<RestClient["request"]>;

  test("requires a login within the last 5 minutes", async () => {
    const account = await parley.register();
    await backdateSessions(account.user.id, 290);
    expect((await performOperation(createRestClient(parley, account))).status).toBeLessThan(300);
    const oldLogin = await registerWithOldLogin();
    const { status, body } = await performOperation(oldLogin);
    expect(body).toMatchObject(reauthenticationRequired);
    expect(status).toBe(403);
    expect(await isEmailUnchanged(oldLogin)).toBe(true);
  });

  test("accepts the current password instead of a recent login, but not a wrong password", async () => {
    const oldLogin = await registerWithOldLogin();
    expect((await performOperation(oldLogin, { current_password: "a wrong one" })).body).toMatchObject({
      code: "forbidden",
    });
    expect(await isEmailUnchanged(oldLogin)).toBe(true);
    expect((await performOperation(oldLogin, { current_password: TEST_PASSWORD })).status).toBeLessThan(300);
    const recentLogin = createRestClient(parley, await parley.register());
    expect((await performOperation(recentLogin, { current_password: "a wrong one" })).body).toMatchObject({
      code: "forbidden",
    });
    expect(await isEmailUnchanged(recentLogin)).toBe(true);
  });

  test("doesn't accept a refreshed token, a ticket or another session's login instead of a recent login", async () => {
    const oldLogin = await registerWithOldLogin();
    const refreshResponse = await parley.fetch("/api/v1/auth/refresh", {
      json: { refresh_token: oldLogin.account.refresh_token },
    });
    const refreshedRest = createRestClient(parley, (await refreshResponse.json()) as Account);
    await refreshedRest.request("POST", "/auth/ticket");
    expect((await performOperation(refreshedRest)).body).toMatchObject(reauthenticationRequired);
    const json = { email: oldLogin.account.user.email, password: TEST_PASSWORD };
    const otherAccount = (await (await parley.fetch("/api/v1/auth/login", { json })).json()) as Account;
    expect((await performOperation(refreshedRest)).body).toMatchObject(reauthenticationRequired);
    expect((await performOperation(createRestClient(parley, otherAccount))).status).toBeLessThan(300);
  });

  test("is forbidden with an API key, even with the password", async () => {
    const account = await parley.register();
    const json = { name: "k", scopes: ["users:write", "users:read"] };
    const createdKey = await createRestClient(parley, account).request<{ key: string }>("POST", "/api-keys", json);
    const keyRest = createRestClient(parley, { ...account, access_token: createdKey.body.key });
    for (const proof of [undefined, { current_password: TEST_PASSWORD }])
      expect((await performOperation(keyRest, proof)).body).toMatchObject({ status: 403, code: "forbidden" });
    expect(await isEmailUnchanged(keyRest)).toBe(true);
  });

  test("requires a login at the issuer within the last 5 minutes if the account has no password", async () => {
    const claims = issuer.createClaims({ iat: getNowS() - 301 });
    const sub = String(claims.sub);
    const openWithToken = async (changes: object) =>
      createRestClient(parley, {
        user: { id: "", email: String(claims.email), display_name: "" },
        access_token: await issuer.sign({ ...claims, ...changes }),
        refresh_token: "",
      });
    const openWithLogin = async (changes: object) => {
      const token = await issuer.sign({ ...claims, ...changes });
      const response = await parley.fetch("/api/v1/auth/oidc", { json: { token } });
      return createRestClient(parley, (await response.json()) as Account);
    };
    for (const openSession of [openWithToken, openWithLogin]) {
      // The login time is `auth_time` or, if it is missing, `iat`. A token without either isn't enough.
      for (const changes of [{}, { iat: getNowS(), auth_time: getNowS() - 301 }, { iat: undefined }])
        expect({ changes, ...((await performOperation(await openSession(changes))).body as object) }).toMatchObject(
          reauthenticationRequired,
        );
      const proof = { current_password: "none exists" };
      expect((await performOperation(await openSession({}), proof)).body).toMatchObject({ code: "forbidden" });
      expect(await isEmailUnchanged(await openSession({}))).toBe(true);
    }
    expect((await performOperation(await openWithLogin({ iat: getNowS(), sub }))).status).toBeLessThan(300);
  });
});

test("a new name or an unchanged email address needs no reauthentication", async () => {
  const oldLogin = await registerWithOldLogin();
  const json = { email: oldLogin.account.user.email, display_name: "Another name" };
  expect((await oldLogin.request("PATCH", "/me", json)).body).toMatchObject(json);
  expect(
    (await oldLogin.requestProblem("PATCH", "/me", { email: oldLogin.account.user.email.toUpperCase() })).code,
  ).toBe(reauthenticationRequired.code);
});

test("the error code's documentation page contains a remedy", async () => {
  const response = await parley.fetch("/problems/reauthentication_required", {
    headers: { accept: "application/json" },
  });
  expect(await response.json()).toMatchObject({ status: 403, remedy: expect.stringContaining("current_password") });
});
