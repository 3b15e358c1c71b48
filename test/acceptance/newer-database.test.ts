import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { type Database, openDatabase } from "../../src/db/client.ts";
import { type DatabaseServer, startDatabaseServer } from "./database-server.ts";
import { createSite, type Site, TEST_TIMEOUT_MS } from "./site.ts";

setDefaultTimeout(TEST_TIMEOUT_MS);

let server: DatabaseServer;
let site: Site;
let sql: Database;
beforeAll(async () => {
  server = await startDatabaseServer();
  const DATABASE_URL = await server.createDatabase();
  sql = openDatabase({ target: { url: DATABASE_URL }, poolSize: 1 });
  site = await createSite({ env: { DATABASE_URL } });
});
afterAll(async () => {
  await sql.end({ timeout: 1 });
  await site.remove();
  await server.stop();
});

test("a newer version migrates while an older one runs and keeps working; the older one refuses to start again", async () => {
  const running = await site.start();
  const account = await running.register();
  // The state that a newer version would leave.
  await sql`insert into migrations (name, checksum, version) values ('0099_from_later.sql', 'x', '9.8.7')`;
  await sql`update sql_functions set checksum = 'x'`;

  const conversation = { token: account.access_token, json: { title: "Still here" } };
  expect((await running.fetch("/api/v1/conversations", conversation)).status).toBe(201);
  expect((await fetch(`${running.url}/readyz`)).status).toBe(200);

  for (const command of [[], ["serve"], ["migrate"]]) {
    const { code, errors } = await site.run(command);
    expect({ command, code }).toEqual({ command, code: 1 });
    expect(errors.trimEnd().split("\n")).toHaveLength(1);
    expect(errors).toMatch(/0099_from_later\.sql.*Use Parley 9\.8\.7, or a newer version\.\n$/);
  }
  expect((await sql`select 1 from sql_functions where checksum <> 'x'`).length).toBe(0);
  const { code, output } = await site.run(["migrate", "--status"]);
  expect({ code, last: output.trimEnd().split("\n").at(-1) }).toMatchObject({
    code: 0,
    last: expect.stringMatching(/^unknown {2}0099_from_later\.sql/),
  });
  expect((await running.stop()).code).toBe(0);
});

test("refuses a database whose migration was changed", async () => {
  await sql`delete from migrations where name = '0099_from_later.sql'`;
  await sql`update migrations set checksum = 'x', version = null where name = '0001_accounts.sql'`;
  const { code, errors } = await site.run([]);
  expect({ code, lines: errors.trimEnd().split("\n").length }).toEqual({ code: 1, lines: 1 });
  expect(errors).toMatch(/^0001_accounts\.sql differs from the migration .*\n$/);
});
