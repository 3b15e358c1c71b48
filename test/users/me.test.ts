import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { PREFERENCES_BYTES_MAX, type User } from "../../src/modules/users/model.ts";
import { type Accounts, readJson, readProblem, startAccounts } from "../auth/start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

const invalid = { status: 422, code: "invalid" };
const get = async (token: string) => readJson<User>(await accounts.call("/me", { token }));

describe("a profile", () => {
  const change = (token: string, json: unknown) => accounts.call("/me", { method: "PATCH", token, json });

  test("has a name and an email, which can be changed together or separately", async () => {
    const { access_token: token, user } = await accounts.register();
    const named = await readJson<User>(await change(token, { display_name: " Ada " }));
    expect(named).toEqual({ ...user, display_name: "Ada" });
    const changed = await readJson<User>(await change(token, { email: "Ada.New@example.com", display_name: "A. L." }));
    expect(changed).toEqual({ ...user, display_name: "A. L.", email: "Ada.New@example.com" });
    expect(await get(token)).toEqual(changed);
    expect(await readJson<User>(await change(token, {}))).toEqual(changed);
    expect((await accounts.login("ada.new@example.com")).user).toEqual(changed);
    expect(
      await readProblem(await accounts.call("/auth/login", { json: { email: user.email, password: "x" } })),
    ).toEqual({
      status: 401,
      code: "invalid_credentials",
    });
  });

  test("can only be changed by its user", async () => {
    const other = await accounts.register();
    await change((await accounts.register()).access_token, { display_name: "Not Other" });
    expect(await get(other.access_token)).toEqual(other.user);
  });

  test("refuses an email that is in use, but accepts the user's own email in different case", async () => {
    const other = await accounts.register();
    const { access_token: token, user } = await accounts.register();
    expect(await readProblem(await change(token, { email: other.user.email.toUpperCase() }))).toEqual({
      status: 409,
      code: "conflict",
    });
    expect(await get(token)).toEqual(user);
    expect((await change(token, { email: user.email.toUpperCase() })).status).toBe(200);
  });

  test.each([
    [{ display_name: "" }],
    [{ display_name: " " }],
    [{ display_name: "x".repeat(81) }],
    [{ display_name: "a\nb" }],
    [{ display_name: null }],
    [{ email: "nobody" }],
    [{ role: "admin" }],
    [{ disabled: false }],
    [{ id: "00000000-0000-7000-8000-000000000000" }],
    ["text"],
  ])("refuses %j", async (json) => {
    const { access_token: token, user } = await accounts.register();
    expect(await readProblem(await change(token, json))).toEqual(invalid);
    expect(await get(token)).toEqual(user);
  });

  test("accepts a name of 80 characters", async () => {
    const { access_token: token } = await accounts.register();
    expect((await change(token, { display_name: "x".repeat(80) })).status).toBe(200);
  });
});

describe("preferences", () => {
  const put = (token: string, json: unknown) => accounts.call("/me/preferences", { method: "PUT", token, json });
  const read = async (token: string) => readJson<unknown>(await accounts.call("/me/preferences", { token }));

  test("start empty, are replaced as a whole, and belong to one user", async () => {
    const { access_token: token } = await accounts.register();
    const other = await accounts.register();
    expect(await read(token)).toEqual({});
    const preferences = { theme: "dark", nested: { list: [1, 2.5, null, "ä"], "a/b": true } };
    expect(await readJson<unknown>(await put(token, preferences))).toEqual(preferences);
    expect(await read(token)).toEqual(preferences);
    await put(token, { only: 1 });
    expect(await read(token)).toEqual({ only: 1 });
    expect(await read(other.access_token)).toEqual({});
  });

  test("can have up to 16 KiB", async () => {
    const { access_token: token } = await accounts.register();
    const emptyBytes = '{"a":""}'.length;
    const full = { a: "x".repeat(PREFERENCES_BYTES_MAX - emptyBytes) };
    expect((await put(token, full)).status).toBe(200);
    expect(await readProblem(await put(token, { a: `${full.a}x` }))).toEqual({ status: 413, code: "too_large" });
    expect(await readProblem(await put(token, { a: "ä".repeat(PREFERENCES_BYTES_MAX / 2) }))).toEqual({
      status: 413,
      code: "too_large",
    });
    expect(await read(token)).toEqual(full);
  });

  test("must be an object without NUL", async () => {
    const { access_token: token } = await accounts.register();
    for (const json of [[], "text", 1, null, { a: "\u0000" }, { "\ud800": 1 }])
      expect(await readProblem(await put(token, json))).toEqual(invalid);
    expect(await read(token)).toEqual({});
  });
});
