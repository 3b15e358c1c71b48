import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { settings } from "../../src/config/settings.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../src/db/connect.ts";

const srcDir = join(import.meta.dir, "../../src");
const files = [...new Bun.Glob("**/*.ts").scanSync(srcDir)].sort();
const sources = new Map(files.map((file) => [file, readFileSync(join(srcDir, file), "utf8")]));

/** Matches SQL statements and database functions that may wait for a row locked by another transaction. */
const waitingSql =
  /\b(?:insert into|update \w+ |delete from|for (?:no key )?update|for (?:key )?share|reserve_\w+\(|settle_\w+\()/;
/** Statements that match `waitingSql` but don't wait, each with the reason why. */
const nonWaitingStatements: Record<string, string> = {
  "modules/audit/queries.ts insertAuditEvent": "a new row without references",
  "http/idempotency-store.ts": "rows claimed by this instance",
  "modules/documents/list-queries.ts renewList": "the row of this instance",
  "modules/budgets/queries.ts settleCharges": "waits only if the caller requests it, and then in a transaction",
  "jobs/queue.ts claimInterval": "waits only for another instance's claim of the same job",
  "jobs/queue.ts complete": "rows claimed by this instance",
  "jobs/queue.ts postpone": "rows claimed by this instance",
  "modules/backups/queries.ts beginSchedule": "the only row of a job that only one instance runs",
  "modules/backups/queries.ts recordSuccess": "the only row of a job that only one instance runs",
  "modules/backups/queries.ts recordFailure": "the only row of a job that only one instance runs",
  "db/migrate.ts applyNextMigration": "runs before anything else",
};

const queries = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/^(?:export )?(?:async )?function (\w+)\([\s\S]*?^\}/gm)]
    .filter(([body]) => waitingSql.test(body.replaceAll(/^\s*(?:\/\/|\*).*$/gm, "")) && !/skip locked/.test(body))
    .map(([, name = ""]) => ({ file, name })),
);

/** Files that contain a statement that may wait, but not in a query function. */
const inlineFiles = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/\bdatabase`([^`]*)`/g)].filter(([, sql = ""]) => waitingSql.test(sql)).map(() => file),
);

test("statements that may wait for a row run in `withTransaction`, never on the main pool", () => {
  expect(queries.length).toBeGreaterThan(40);
  const mainPoolQueries = queries.flatMap(({ file, name }) =>
    [...sources]
      .filter(([caller]) => dirname(caller) === dirname(file))
      .filter(([, text]) => new RegExp(`\\b${name}\\(database\\b`).test(text))
      .map(() => `${file} ${name}`),
  );
  expect([...mainPoolQueries, ...inlineFiles].filter((query) => !(query in nonWaitingStatements))).toEqual([]);
});

test("the description of DATABASE_POOL_SIZE states the number of extra connections", () => {
  expect(settings.properties.DATABASE_POOL_SIZE.description).toContain(`Up to ${EXTRA_CONNECTIONS_MAX} more`);
});
