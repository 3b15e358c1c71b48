import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { Tokens } from "../../src/modules/auth/model.ts";
import { type Accounts, PASSWORD, readJson, readProblem, startAccounts } from "./start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

const register = (json: unknown) => accounts.sendRequest("/auth/register", { json });
const login = (email: unknown, password: unknown) => accounts.sendRequest("/auth/login", { json: { email, password } });

describe("registration", () => {
  test("returns the user and working tokens", async () => {
    const response = await register({
      email: "  Ada@Example.com ",
      password: PASSWORD,
      display_name: " Ada Lovelace ",
    });
    expect(response.status).toBe(201);
    expect(response.headers.get("cache-control")).toBe("no-store");
    const body = await readJson<Tokens>(response);
    expect(body).toEqual({
      user: {
        id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
        email: "Ada@Example.com",
        display_name: "Ada Lovelace",
        role: "user",
        disabled: false,
        created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
      },
      access_token: expect.any(String),
      token_type: "Bearer",
      expires_in: 900,
      refresh_token: expect.stringMatching(/^prt_/),
    });
    const me = await accounts.sendRequest("/me", { token: body.access_token });
    expect(await readJson<unknown>(me)).toEqual(body.user);
  });

  test("stores an argon2id hash and never the password", async () => {
    const { user } = await accounts.register();
    const [row] = await accounts.database`select * from users where id = ${user.id}`;
    expect(row?.password_hash).toStartWith("$argon2id$");
    expect(JSON.stringify(row)).not.toContain(PASSWORD);
  });

  test("derives the display name from the email address if none is given", async () => {
    expect((await accounts.register("grace.hopper@example.com")).user.display_name).toBe("grace.hopper");
  });

  test("rejects a taken email address in any case and Unicode form", async () => {
    await accounts.register("zo\u00eb@example.com");
    for (const email of [
      "zo\u00eb@example.com",
      "ZO\u00cb@EXAMPLE.com",
      "zoe\u0308@example.com",
      " zo\u00eb@example.com ",
    ])
      expect(await readProblem(await register({ email, password: PASSWORD }))).toEqual({
        status: 409,
        code: "conflict",
      });
  });

  test("succeeds for one of 16 concurrent requests with the same email address", async () => {
    const responses = await Promise.all(
      Array.from({ length: 16 }, () => register({ email: "race@example.com", password: PASSWORD })),
    );
    expect(responses.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(responses.filter(({ status }) => status === 409)).toHaveLength(15);
  });

  test.each([
    ["no password", { email: "a@example.com" }],
    ["a short password", { email: "a@example.com", password: "1234567" }],
    ["a long password", { email: "a@example.com", password: "x".repeat(129) }],
    ["a password that is not a string", { email: "a@example.com", password: 12345678 }],
    ["an invalid email address", { email: "nobody", password: PASSWORD }],
    ["a long email address", { email: `${"a".repeat(250)}@example.com`, password: PASSWORD }],
    ["a control character in the email address", { email: "a\u0007b@example.com", password: PASSWORD }],
    ["a blank name", { email: "a@example.com", password: PASSWORD, display_name: "   " }],
    ["a long name", { email: "a@example.com", password: PASSWORD, display_name: "x".repeat(81) }],
    ["a control character in the name", { email: "a@example.com", password: PASSWORD, display_name: "a\u001bb" }],
    ["a bidirectional override in the name", { email: "a@example.com", password: PASSWORD, display_name: "a\u202eb" }],
    ["a NUL in the password", { email: "a@example.com", password: `${PASSWORD}\u0000` }],
    ["an unknown field", { email: "a@example.com", password: PASSWORD, role: "admin" }],
    ["an array", [{ email: "a@example.com", password: PASSWORD }]],
  ])("is rejected with %s", async (_, json) => {
    expect(await readProblem(await register(json))).toEqual({ status: 422, code: "invalid" });
    expect(
      await accounts.database`select 1 from users where email_key like 'a%@example.com' and email_key <> 'ada@example.com'`,
    ).toHaveLength(0);
  });

  test("accepts the shortest and the longest password", async () => {
    for (const [email, password] of [
      ["short@example.com", "kx4_pq9z"],
      ["long@example.com", "x".repeat(128)],
    ]) {
      expect((await register({ email, password })).status).toBe(201);
      expect((await login(email, password)).status).toBe(200);
    }
  });

  test("is forbidden if REGISTRATION is closed, but login isn't", async () => {
    const closedInstance = await startAccounts({ registration: "closed", database: accounts.database });
    const registeredTokens = await accounts.register();
    const response = await closedInstance.sendRequest("/auth/register", {
      json: { email: "new@example.com", password: PASSWORD },
    });
    expect(await readProblem(response)).toEqual({ status: 403, code: "registration_closed" });
    expect((await closedInstance.login(registeredTokens.user.email)).user.id).toBe(registeredTokens.user.id);
    await closedInstance.stop();
  });
});

describe("login", () => {
  test("opens a new session every time", async () => {
    const firstTokens = await accounts.register();
    const secondTokens = await accounts.login(firstTokens.user.email.toUpperCase());
    expect(secondTokens.user).toEqual(firstTokens.user);
    expect(secondTokens.refresh_token).not.toBe(firstTokens.refresh_token);
    expect(secondTokens.access_token).not.toBe(firstTokens.access_token);
  });

  test("fails identically for an unknown email address and for a wrong password, even of a disabled user", async () => {
    const registeredTokens = await accounts.register();
    const disabledUser = await accounts.register();
    await accounts.database`update users set disabled_at = now() where id = ${disabledUser.user.id}`;
    const problems = await Promise.all(
      ["unknown@example.com", registeredTokens.user.email, disabledUser.user.email].map(async (email) => {
        const { request_id, instance, ...body } = await readJson<Record<string, unknown>>(
          await login(email, "wrong password"),
        );
        expect(instance).toBe(`urn:request:${request_id}`);
        return body;
      }),
    );
    expect(problems[0]).toMatchObject({ status: 401, code: "invalid_credentials" });
    expect(problems[1]).toEqual(problems[0] ?? {});
    expect(problems[2]).toEqual(problems[0] ?? {});
  });

  test("returns forbidden for a disabled user with the correct password, and opens no session", async () => {
    const { user } = await accounts.register();
    await accounts.database`update users set disabled_at = now() where id = ${user.id}`;
    expect(await readProblem(await login(user.email, PASSWORD))).toEqual({ status: 403, code: "forbidden" });
    expect(await accounts.database`select 1 from sessions where user_id = ${user.id}`).toHaveLength(1);
  });

  test("accepts the same password in a different Unicode normalization form", async () => {
    await register({ email: "nfc@example.com", password: "pa\u00dfw\u00f6rter" });
    expect((await login("nfc@example.com", "pa\u00dfwo\u0308rter")).status).toBe(200);
  });

  test("rejects malformed requests", async () => {
    expect(await readProblem(await login("nobody", "x"))).toEqual({ status: 422, code: "invalid" });
    expect(await readProblem(await login("a@example.com", ""))).toEqual({ status: 422, code: "invalid" });
    const malformedResponse = await fetch(`${accounts.url}/auth/login`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"email":',
    });
    expect(await readProblem(malformedResponse)).toEqual({ status: 400, code: "malformed" });
    const formResponse = await fetch(`${accounts.url}/auth/login`, {
      method: "POST",
      body: new URLSearchParams({ email: "a" }),
    });
    expect(await readProblem(formResponse)).toEqual({ status: 415, code: "unsupported_media_type" });
  });

  test("opens no session if the password is changed concurrently", async () => {
    const { user } = await accounts.register();
    const requester = { ipAddress: null, account: "anybody", knownBy: "nothing" } as const;
    const { passwordHash } = await accounts.users.checkCredentials(
      { email: user.email, password: PASSWORD },
      requester,
      async () => {},
    );
    await accounts.database`update users set password_hash = ${await accounts.users.hashPassword({ password: "another one", email: user.email }, requester)} where id = ${user.id}`;
    const { insertSession } = await import("../../src/modules/auth/queries.ts");
    const session = {
      id: user.id,
      userId: user.id,
      proof: { passwordHash },
      refreshKey: Buffer.alloc(32),
      client: { userAgent: null, ipAddress: null },
    };
    expect(await insertSession(accounts.database, session)).toBe(false);
  });
});
