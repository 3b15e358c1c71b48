import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { PREFERENCES_BYTES_MAX, type User } from "../../src/modules/users/model.ts";
import { type Accounts, readJson, readProblem, startAccounts } from "../auth/start-accounts.ts";

let accounts: Accounts;
beforeAll(async () => {
  accounts = await startAccounts();
});
afterAll(() => accounts.stop());

const invalidProblem = { status: 422, code: "invalid" };
const getProfile = async (token: string) => readJson<User>(await accounts.sendRequest("/me", { token }));

describe("a profile", () => {
  const changeProfile = (token: string, json: unknown) => accounts.sendRequest("/me", { method: "PATCH", token, json });

  test("has a name and an email, which can be changed together or separately", async () => {
    const { access_token: token, user } = await accounts.register();
    const renamedProfile = await readJson<User>(await changeProfile(token, { display_name: " Ada " }));
    expect(renamedProfile).toEqual({ ...user, display_name: "Ada" });
    const changedProfile = await readJson<User>(
      await changeProfile(token, { email: "Ada.New@example.com", display_name: "A. L." }),
    );
    expect(changedProfile).toEqual({ ...user, display_name: "A. L.", email: "Ada.New@example.com" });
    expect(await getProfile(token)).toEqual(changedProfile);
    expect(await readJson<User>(await changeProfile(token, {}))).toEqual(changedProfile);
    expect((await accounts.login("ada.new@example.com")).user).toEqual(changedProfile);
    expect(
      await readProblem(await accounts.sendRequest("/auth/login", { json: { email: user.email, password: "x" } })),
    ).toEqual({
      status: 401,
      code: "invalid_credentials",
    });
  });

  test("can only be changed by its user", async () => {
    const otherAccount = await accounts.register();
    await changeProfile((await accounts.register()).access_token, { display_name: "Not Other" });
    expect(await getProfile(otherAccount.access_token)).toEqual(otherAccount.user);
  });

  test("rejects an email that is in use, but accepts the user's own email in a different case", async () => {
    const otherAccount = await accounts.register();
    const { access_token: token, user } = await accounts.register();
    expect(await readProblem(await changeProfile(token, { email: otherAccount.user.email.toUpperCase() }))).toEqual({
      status: 409,
      code: "conflict",
    });
    expect(await getProfile(token)).toEqual(user);
    expect((await changeProfile(token, { email: user.email.toUpperCase() })).status).toBe(200);
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
  ])("rejects %j", async (json) => {
    const { access_token: token, user } = await accounts.register();
    expect(await readProblem(await changeProfile(token, json))).toEqual(invalidProblem);
    expect(await getProfile(token)).toEqual(user);
  });

  test("accepts a name of 80 characters", async () => {
    const { access_token: token } = await accounts.register();
    expect((await changeProfile(token, { display_name: "x".repeat(80) })).status).toBe(200);
  });
});

describe("preferences", () => {
  const putPreferences = (token: string, json: unknown) =>
    accounts.sendRequest("/me/preferences", { method: "PUT", token, json });
  const getPreferences = async (token: string) =>
    readJson<unknown>(await accounts.sendRequest("/me/preferences", { token }));

  test("are empty at first, are replaced as a whole, and belong to one user", async () => {
    const { access_token: token } = await accounts.register();
    const otherAccount = await accounts.register();
    expect(await getPreferences(token)).toEqual({});
    const preferences = { theme: "dark", nested: { list: [1, 2.5, null, "ä"], "a/b": true } };
    expect(await readJson<unknown>(await putPreferences(token, preferences))).toEqual(preferences);
    expect(await getPreferences(token)).toEqual(preferences);
    await putPreferences(token, { only: 1 });
    expect(await getPreferences(token)).toEqual({ only: 1 });
    expect(await getPreferences(otherAccount.access_token)).toEqual({});
  });

  test("can have up to 16 KiB", async () => {
    const { access_token: token } = await accounts.register();
    const emptyBytes = '{"a":""}'.length;
    const largestPreferences = { a: "x".repeat(PREFERENCES_BYTES_MAX - emptyBytes) };
    expect((await putPreferences(token, largestPreferences)).status).toBe(200);
    expect(await readProblem(await putPreferences(token, { a: `${largestPreferences.a}x` }))).toEqual({
      status: 413,
      code: "too_large",
    });
    expect(await readProblem(await putPreferences(token, { a: "ä".repeat(PREFERENCES_BYTES_MAX / 2) }))).toEqual({
      status: 413,
      code: "too_large",
    });
    expect(await getPreferences(token)).toEqual(largestPreferences);
  });

  test("must be an object without NUL characters", async () => {
    const { access_token: token } = await accounts.register();
    for (const json of [[], "text", 1, null, { a: "\u0000" }, { "\ud800": 1 }])
      expect(await readProblem(await putPreferences(token, json))).toEqual(invalidProblem);
    expect(await getPreferences(token)).toEqual({});
  });
});
