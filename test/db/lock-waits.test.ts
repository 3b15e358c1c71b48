import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { settings } from "../../src/config/settings.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../src/db/connect.ts";

const src = join(import.meta.dir, "../../src");
const files = [...new Bun.Glob("**/*.ts").scanSync(src)].sort();
const sources = new Map(files.map((file) => [file, readFileSync(join(src, file), "utf8")]));

/** SQL that may wait for a row locked by another transaction, and database functions that do. */
const waitingSql =
  /\b(?:insert into|update \w+ |delete from|for (?:no key )?update|for (?:key )?share|reserve_\w+\(|settle_\w+\()/;
/** Statements that match `waitingSql` but don't wait, each with the reason why. */
const nonWaitingStatements: Record<string, string> = {
  "modules/audit/queries.ts insertAuditEvent": "a new row without references",
  "http/idempotency-store.ts": "rows claimed by this instance",
  "modules/documents/list-queries.ts renewList": "the row of this instance",
  "modules/budgets/queries.ts settleCharges": "waits only if the caller asks for it, and then in a transaction",
  "jobs/queue.ts claimInterval": "waits only for another instance's claim of the same job",
  "jobs/queue.ts complete": "rows claimed by this instance",
  "jobs/queue.ts postpone": "rows claimed by this instance",
  "modules/backups/queries.ts beginSchedule": "the one row of a job that one instance runs",
  "modules/backups/queries.ts recordSuccess": "the one row of a job that one instance runs",
  "modules/backups/queries.ts recordFailure": "the one row of a job that one instance runs",
  "db/migrate.ts applyNext": "before anything else runs",
};

const queries = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/^(?:export )?(?:async )?function (\w+)\([\s\S]*?^\}/gm)]
    .filter(([body]) => waitingSql.test(body.replaceAll(/^\s*(?:\/\/|\*).*$/gm, "")) && !/skip locked/.test(body))
    .map(([, name = ""]) => ({ file, name })),
);

/** Files with a statement that may wait, outside a query function. */
const inlineFiles = [...sources].flatMap(([file, text]) =>
  [...text.matchAll(/\bdatabase`([^`]*)`/g)].filter(([, sql = ""]) => waitingSql.test(sql)).map(() => file),
);

test("statements that may wait for a row run in `withTransaction`, never on the main pool", () => {
  expect(queries.length).toBeGreaterThan(40);
  const onMainPool = queries.flatMap(({ file, name }) =>
    [...sources]
      .filter(([caller]) => dirname(caller) === dirname(file))
      .filter(([, text]) => new RegExp(`\\b${name}\\(database\\b`).test(text))
      .map(() => `${file} ${name}`),
  );
  expect([...onMainPool, ...inlineFiles].filter((query) => !(query in nonWaitingStatements))).toEqual([]);
});

test("the description of DATABASE_POOL_SIZE states the number of extra connections", () => {
  expect(settings.properties.DATABASE_POOL_SIZE.description).toContain(`Up to ${EXTRA_CONNECTIONS_MAX} more`);
});
