import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Account, startApp, TEST_PASSWORD, type TestApp } from "../support/app.ts";
import { createRest, type Rest } from "../support/rest.ts";
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

let count = 0;
const newEmail = () => `moved-${++count}@example.com`;
const needed = { status: 403, code: "reauthentication_required" };
const nowS = () => Math.floor(Date.now() / 1_000);

/** Operations that change or delete the account itself. */
const operations: Record<string, (rest: Rest, proof?: object) => ReturnType<Rest["request"]>> = {
  "changing the address": (rest, proof) => rest.request("PATCH", "/me", { email: newEmail(), ...proof }),
  "deleting the account": (rest, proof) => rest.request("DELETE", "/me", proof),
};
const makeOld = (id: string, seconds = 301) =>
  parley.database`
    update sessions set created_at = created_at - make_interval(secs => ${seconds}),
      authenticated_at = authenticated_at - make_interval(secs => ${seconds}) where user_id = ${id}`;
async function registerLongAgo(): Promise<Rest> {
  const account = await parley.register();
  await makeOld(account.user.id);
  return createRest(parley, account);
}
const exists = async (rest: Rest) => (await rest.get<{ email: string }>("/me")).body.email === rest.account.user.email;

describe.each(Object.keys(operations))("%s", (name) => {
  const operate = (rest: Rest, proof?: object) => operations[name]?.(rest, proof) as ReturnType<Rest["request"]>;

  test("requires a login within 5 minutes", async () => {
    const account = await parley.register();
    await makeOld(account.user.id, 290);
    expect((await operate(createRest(parley, account))).status).toBeLessThan(300);
    const old = await registerLongAgo();
    const { status, body } = await operate(old);
    expect(body).toMatchObject(needed);
    expect(status).toBe(403);
    expect(await exists(old)).toBe(true);
  });

  test("or the current password, but not a wrong one", async () => {
    const old = await registerLongAgo();
    expect((await operate(old, { current_password: "a wrong one" })).body).toMatchObject({ code: "forbidden" });
    expect(await exists(old)).toBe(true);
    expect((await operate(old, { current_password: TEST_PASSWORD })).status).toBeLessThan(300);
    const young = createRest(parley, await parley.register());
    expect((await operate(young, { current_password: "a wrong one" })).body).toMatchObject({ code: "forbidden" });
    expect(await exists(young)).toBe(true);
  });

  test("a refresh or a ticket doesn't renew the login, and another session's login doesn't count", async () => {
    const old = await registerLongAgo();
    const refreshed = await parley.fetch("/api/v1/auth/refresh", {
      json: { refresh_token: old.account.refresh_token },
    });
    const again = createRest(parley, (await refreshed.json()) as Account);
    await again.request("POST", "/auth/ticket");
    expect((await operate(again)).body).toMatchObject(needed);
    // A login in another session doesn't count for this one.
    const json = { email: old.account.user.email, password: TEST_PASSWORD };
    const other = (await (await parley.fetch("/api/v1/auth/login", { json })).json()) as Account;
    expect((await operate(again)).body).toMatchObject(needed);
    expect((await operate(createRest(parley, other))).status).toBeLessThan(300);
  });

  test("is forbidden with an API key, even with the password", async () => {
    const account = await parley.register();
    const json = { name: "k", scopes: ["users:write", "users:read"] };
    const made = await createRest(parley, account).request<{ key: string }>("POST", "/api-keys", json);
    const machine = createRest(parley, { ...account, access_token: made.body.key });
    for (const proof of [undefined, { current_password: TEST_PASSWORD }])
      expect((await operate(machine, proof)).body).toMatchObject({ status: 403, code: "forbidden" });
    expect(await exists(machine)).toBe(true);
  });

  test("users of an issuer need a login there within 5 minutes", async () => {
    const claims = issuer.createClaims({ iat: nowS() - 301 });
    const sub = String(claims.sub);
    const asToken = async (changes: object) =>
      createRest(parley, {
        user: { id: "", email: String(claims.email), display_name: "" },
        access_token: await issuer.sign({ ...claims, ...changes }),
        refresh_token: "",
      });
    const asLogin = async (changes: object) => {
      const token = await issuer.sign({ ...claims, ...changes });
      const response = await parley.fetch("/api/v1/auth/oidc", { json: { token } });
      return createRest(parley, (await response.json()) as Account);
    };
    for (const open of [asToken, asLogin]) {
      // An older token doesn't open a newer session, and auth_time of a renewed token is respected.
      for (const changes of [{}, { iat: nowS(), auth_time: nowS() - 301 }, { iat: undefined }])
        expect({ changes, ...((await operate(await open(changes))).body as object) }).toMatchObject(needed);
      const proof = { current_password: "none exists" };
      expect((await operate(await open({}), proof)).body).toMatchObject({ code: "forbidden" });
      expect(await exists(await open({}))).toBe(true);
    }
    expect((await operate(await asLogin({ iat: nowS(), sub }))).status).toBeLessThan(300);
  });
});

test("an unchanged address needs no reauthentication, nor does a name", async () => {
  const old = await registerLongAgo();
  const json = { email: old.account.user.email, display_name: "Another name" };
  expect((await old.request("PATCH", "/me", json)).body).toMatchObject(json);
  expect((await old.refused("PATCH", "/me", { email: old.account.user.email.toUpperCase() })).code).toBe(needed.code);
});

test("the error code's page says what to do", async () => {
  const response = await parley.fetch("/problems/reauthentication_required", {
    headers: { accept: "application/json" },
  });
  expect(await response.json()).toMatchObject({ status: 403, remedy: expect.stringContaining("current_password") });
});
