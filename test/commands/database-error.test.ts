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

/** Runs a statement that must fail, and returns the message that explains its error. */
async function explainFailure(failingTarget: Partial<Target>, statement = "select 1"): Promise<string | null> {
  const failingDatabase = openDatabase({ target: { ...target, ...failingTarget }, poolSize: 1 });
  try {
    await failingDatabase.unsafe(statement);
    throw new Error("The statement did not fail.");
  } catch (error) {
    return explainDatabaseError(error);
  } finally {
    await failingDatabase.end({ timeout: 1 });
  }
}

test("the message for a missing database suggests creating it", async () => {
  expect(await explainFailure({ database: "nowhere" })).toBe(
    'The database does not exist (database "nowhere" does not exist); create it, or correct DATABASE_URL.',
  );
});

test("the message for an unknown user suggests correcting DATABASE_URL", async () => {
  expect(await explainFailure({ user: "nobody_here" })).toBe(
    'Postgres rejected the login (role "nobody_here" does not exist); correct the user and the password in DATABASE_URL.',
  );
});

test("the message for missing permissions suggests changing the owner", async () => {
  await database.unsafe("create role weak_user login");
  const message = await explainFailure({ user: "weak_user" }, "create table public.x ()");
  await database.unsafe("drop role weak_user");
  expect(message).toBe(
    "The user in DATABASE_URL lacks permission (permission denied for schema public); make it the owner of the database.",
  );
});

test("the message for an unavailable server suggests checking it", async () => {
  expect(await explainFailure({ socketDirectory: "/nonexistent" })).toMatch(
    /^The database is unreachable \(.*\); check that it is running, and check DATABASE_URL\.$/,
  );
});

test("there is no message for errors that aren't about the connection or permissions", async () => {
  expect(await explainFailure({}, "select nonsense")).toBeNull();
  expect(explainDatabaseError("text")).toBeNull();
});
