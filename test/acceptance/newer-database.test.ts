import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createInstallation, type Installation, TEST_TIMEOUT_MS } from "./installation.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

let server: DatabaseServer;
let installation: Installation;
let database: Database;
beforeAll(async () => {
  server = await startDatabaseServer();
  const DATABASE_URL = await server.createDatabase();
  database = openDatabase({ target: { url: DATABASE_URL }, poolSize: 1 });
  installation = await createInstallation({ env: { DATABASE_URL } });
});
afterAll(async () => {
  await database.end({ timeout: 1 });
  await installation.remove();
  await server.stop();
});

test("after a newer version's migration, a running older version keeps working but can't be restarted", async () => {
  const runningInstance = await installation.start();
  const account = await runningInstance.register();
  // Simulates a newer version's migration.
  await database`insert into migrations (name, checksum, version) values ('0099_from_newer_version.sql', 'x', '9.8.7')`;
  await database`update sql_functions set checksum = 'x'`;

  const conversation = { token: account.access_token, json: { title: "Still here" } };
  expect((await runningInstance.fetch("/api/v1/conversations", conversation)).status).toBe(201);
  expect((await fetch(`${runningInstance.url}/readyz`)).status).toBe(200);

  for (const command of [[], ["serve"], ["migrate"]]) {
    const { code, stderr } = await installation.run(command);
    expect({ command, code }).toEqual({ command, code: 1 });
    expect(stderr.trimEnd().split("\n")).toHaveLength(1);
    expect(stderr).toMatch(/0099_from_newer_version\.sql.*Use Parley 9\.8\.7, or a newer version\.\n$/);
  }
  expect((await database`select 1 from sql_functions where checksum <> 'x'`).length).toBe(0);
  const { code, stdout } = await installation.run(["migrate", "--status"]);
  expect({ code, last: stdout.trimEnd().split("\n").at(-1) }).toMatchObject({
    code: 0,
    last: expect.stringMatching(/^unknown {2}0099_from_newer_version\.sql/),
  });
  expect((await runningInstance.stop()).code).toBe(0);
});

test("Parley doesn't start if an applied migration has been changed", async () => {
  await database`delete from migrations where name = '0099_from_newer_version.sql'`;
  await database`update migrations set checksum = 'x', version = null where name = '0001_accounts.sql'`;
  const { code, stderr } = await installation.run([]);
  expect({ code, lines: stderr.trimEnd().split("\n").length }).toEqual({ code: 1, lines: 1 });
  expect(stderr).toMatch(/^0001_accounts\.sql differs from the migration .*\n$/);
});
