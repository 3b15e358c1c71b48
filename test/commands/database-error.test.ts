import { afterAll, beforeAll, expect, test } from "bun:test";
import { explainDatabaseError } from "../../src/commands/database-error.ts";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { createTestDatabase } from "../support/postgres.ts";

type Target = Awaited<ReturnType<typeof createTestDatabase>>["target"];

let database: Database;
let target: Target;
beforeAll(async () => {
  ({ database, target } = await createTestDatabase());
});
afterAll(() => database.end({ timeout: 1 }));

/** The message for this failing connection. */
async function explain(wrong: Partial<Target>, statement = "select 1"): Promise<string | null> {
  const other = openDatabase({ target: { ...target, ...wrong }, poolSize: 1 });
  try {
    await other.unsafe(statement);
    throw new Error("The statement did not fail.");
  } catch (error) {
    return explainDatabaseError(error);
  } finally {
    await other.end({ timeout: 1 });
  }
}

test("a missing database", async () => {
  expect(await explain({ database: "nowhere" })).toBe(
    'The database does not exist (database "nowhere" does not exist); create it, or correct DATABASE_URL.',
  );
});

test("an unknown user", async () => {
  expect(await explain({ user: "nobody_here" })).toBe(
    'Postgres rejected the login (role "nobody_here" does not exist); correct the user and the password in DATABASE_URL.',
  );
});

test("a user without permissions", async () => {
  await database.unsafe("create role weak_user login");
  const text = await explain({ user: "weak_user" }, "create table public.x ()");
  await database.unsafe("drop role weak_user");
  expect(text).toBe(
    "The user of DATABASE_URL lacks permission (permission denied for schema public); make it the owner of the database.",
  );
});

test("an unavailable server", async () => {
  expect(await explain({ socketDirectory: "/nonexistent" })).toMatch(
    /^The database is unreachable \(.*\); check that it is running, and check DATABASE_URL\.$/,
  );
});

test("other errors have no message", async () => {
  expect(await explain({}, "select nonsense")).toBeNull();
  expect(explainDatabaseError("text")).toBeNull();
});
