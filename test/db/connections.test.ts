import { expect, test } from "bun:test";
import { countConnections } from "../../src/db/client.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../src/db/connect.ts";
import { startApp } from "../support/app.ts";
import { createTestDatabase } from "../support/postgres.ts";

const POOL_SIZE = 5;
/** Selects the Postgres bus. The app itself connects to the test database. */
const DATABASE_URL = "postgres://parley@127.0.0.1:1/parley";

test("an instance opens at most the documented number of connections", async () => {
  const database = await createTestDatabase(POOL_SIZE);
  const app = await startApp({ database, config: { DATABASE_URL } });
  expect(countConnections(database.database).max).toBe(POOL_SIZE + EXTRA_CONNECTIONS_MAX);
  await app.stop();
  await database.database.end({ timeout: 1 });
});

test("the documentation states the correct number of connections", async () => {
  const extraConnections = EXTRA_CONNECTIONS_MAX;
  const totalConnections = 10 + extraConnections;
  const readRepositoryFile = (path: string) => Bun.file(new URL(`../../${path}`, import.meta.url)).text();
  const operations = await readRepositoryFile("docs/operations.md");
  expect(operations).toContain(
    `\`DATABASE_POOL_SIZE\` + ${extraConnections} connections, ${totalConnections} by default`,
  );
  expect(operations).toContain(`; Connections from Parley: ${totalConnections} for each instance.`);
  expect(await readRepositoryFile("docs/scaling.md")).toContain(
    `\`DATABASE_POOL_SIZE\` + ${extraConnections} connections, ${totalConnections} by default`,
  );
  expect(await readRepositoryFile("CHANGELOG.md")).toContain(
    `opens up to ${extraConnections} connections in addition to \`DATABASE_POOL_SIZE\``,
  );
});
