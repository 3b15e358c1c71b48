import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type Database, openDatabase, type Sql, withTransaction } from "../../src/db/client.ts";
import { listAccounts } from "../../src/modules/accounts/queries.ts";
import { createTestDatabase } from "../support/postgres.ts";

const USERS = 15_000;
const PAGE_SIZE = 51;
/** The number of newest users who have a different email domain. It exceeds the first batch of a search. */
const OTHER_DOMAIN_USERS = 300;
/** The maximum number of users that a search may read. */
const USERS_READ_MAX = 10_000;

let database: Database;
/** A single connection whose query plans were created while the table was empty. */
let earlyDatabase: Database;

beforeAll(async () => {
  const testDatabase = await createTestDatabase();
  ({ database } = testDatabase);
  earlyDatabase = openDatabase({ target: testDatabase.target, poolSize: 1 });
  // Prevents automatic statistics, which would replace the plans.
  await database`alter table users set (autovacuum_enabled = false)`;
  for (const q of ["none", "no"]) await countRowsRead(earlyDatabase, q, "force_generic_plan");
  await database`
    insert into users (id, email, email_key, display_name)
    select (lpad(to_hex(1700000000000 + n), 12, '0') || '7000800000000000' || lpad(to_hex(n), 4, '0'))::uuid, e, e,
      (array['Anna Schmidt', 'Peter Kovač', 'ÅSA Öberg', 'Li 李'])[1 + n % 4] || case when n % 500 = 0 then ' rare' else '' end
    from generate_series(1, ${USERS}) n
    cross join lateral (select 'user' || n || case when n > ${USERS - OTHER_DOMAIN_USERS} then '@new.test' else '@example.com' end) x (e)`;
}, 60_000);
afterAll(() => Promise.all([database.end(), earlyDatabase.end()]));

/** Returns how many rows of the table `users` a search reads. */
async function countRowsRead(searchedDatabase: Database, q: string, mode: string): Promise<number> {
  const fetchRowsRead = async (sql: Sql) => {
    const [row] = await sql<{ rows: number }[]>`
      select (seq_tup_read + coalesce(idx_tup_fetch, 0))::int as rows from pg_stat_xact_user_tables where relname = 'users'`;
    return row?.rows ?? 0;
  };
  return withTransaction(searchedDatabase, async (sql) => {
    await sql`select set_config('plan_cache_mode', ${mode}, true)`;
    const rowsReadBefore = await fetchRowsRead(sql);
    await listAccounts(sql, { q, afterId: null, rowsMax: PAGE_SIZE });
    return (await fetchRowsRead(sql)) - rowsReadBefore;
  });
}

/** Returns the expected result of a search, from a full scan. */
const scanAll = async (q: string, afterId: string | null): Promise<string[]> => {
  const rows = await database<{ id: string }[]>`
    select id from users where strpos(lower(email_key || ' ' || display_name), lower(${q})) > 0
      and (${afterId}::uuid is null or id < ${afterId}) order by id desc limit ${PAGE_SIZE}`;
  return rows.map(({ id }) => id);
};

const queries = [
  ...["u", "q", "@", "李", "zz", "an", "AN", "99", "77", "č ", "õä", "ex", "exa", "example.com anna", "ANNA SCHMIDT"],
  ...[
    "user1234",
    "user19999@new",
    "user5@example.com",
    "@example.com",
    ".c",
    "rare",
    "åsa öberg",
    "%",
    "_",
    "com zz",
    "m li 李",
    "schmidt r",
  ],
];

describe("a search among many users", () => {
  test.each(queries)("for %p finds all matches, page by page", async (q) => {
    let afterId: string | null = null;
    for (let page = 0; page < 4; page += 1) {
      const rows = await listAccounts(database, { q, afterId, rowsMax: PAGE_SIZE });
      const ids: string[] = rows.map(({ id }) => id);
      expect({ q, page, ids }).toEqual({ q, page, ids: await scanAll(q, afterId) });
      if (ids.length < PAGE_SIZE) return;
      afterId = ids.at(-1) ?? null;
    }
  });

  const expectFewUsersRead = async (searchedDatabase: Database, modes: string[]) => {
    for (const mode of modes)
      for (const q of queries) {
        const usersRead = await countRowsRead(searchedDatabase, q, mode);
        expect({ mode, q, usersRead: Math.min(usersRead, USERS_READ_MAX) }).toEqual({ mode, q, usersRead });
      }
  };

  test("reads few users with a plan created for an empty table", async () => {
    await expectFewUsersRead(earlyDatabase, ["force_generic_plan"]);
  });

  test("reads few users with any plan once there are statistics", async () => {
    await database`analyze users`;
    await expectFewUsersRead(database, ["force_custom_plan", "force_generic_plan"]);
  });
});
