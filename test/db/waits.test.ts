import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { settings } from "../../src/config/settings.ts";
import { EXTRA_CONNECTIONS_MAX } from "../../src/db/connect.ts";

const src = join(import.meta.dir, "../../src");
const files = [...new Bun.Glob("**/*.ts").scanSync(src)].sort();
const texts = new Map(files.map((file) => [file, readFileSync(join(src, file), "utf8")]));

/** SQL that may wait for a row that somebody else has locked, and functions of the database that do. */
const waitingSql =
  /\b(?:insert into|update \w+ |delete from|for (?:no key )?update|for (?:key )?share|reserve_\w+\(|settle_\w+\()/;
/** Those of them that don't. */
const notWaiting: Record<string, string> = {
  "modules/audit/queries.ts insertAuditEvent": "a new row that refers to no other one",
  "http/idempotency-store.ts": "rows that this instance has claimed",
  "modules/documents/list-queries.ts renewList": "the row of this instance",
  "modules/budgets/queries.ts settleCharges": "it waits only if it is told to, and then in a transaction",
  "jobs/queue.ts claimInterval": "one statement of one job",
  "jobs/queue.ts complete": "rows that this instance has claimed",
  "jobs/queue.ts postpone": "rows that this instance has claimed",
  "modules/backups/queries.ts beginSchedule": "the one row of a job that one instance runs",
  "modules/backups/queries.ts recordSuccess": "the one row of a job that one instance runs",
  "modules/backups/queries.ts recordFailure": "the one row of a job that one instance runs",
  "db/migrate.ts applyNext": "before anything else runs",
};

const queries = [...texts].flatMap(([file, text]) =>
  [...text.matchAll(/^(?:export )?(?:async )?function (\w+)\([\s\S]*?^\}/gm)]
    .filter(([body]) => waitingSql.test(body.replaceAll(/^\s*(?:\/\/|\*).*$/gm, "")) && !/skip locked/.test(body))
    .map(([, name = ""]) => ({ file, name })),
);

/** Statements that are written where they are used. */
const inline = [...texts].flatMap(([file, text]) =>
  [...text.matchAll(/\bdatabase`([^`]*)`/g)].filter(([, sql = ""]) => waitingSql.test(sql)).map(() => file),
);

test("statements that may wait for a row run in `withTransaction`, on no connection of the main pool", () => {
  expect(queries.length).toBeGreaterThan(40);
  const wrong = queries.flatMap(({ file, name }) =>
    [...texts]
      .filter(([caller]) => dirname(caller) === dirname(file))
      .filter(([, text]) => new RegExp(`\\b${name}\\(database\\b`).test(text))
      .map(() => `${file} ${name}`),
  );
  expect([...wrong, ...inline].filter((query) => !(query in notWaiting))).toEqual([]);
});

test("the number of connections is the one that the settings name", () => {
  expect(settings.properties.DATABASE_POOL_SIZE.description).toContain(`up to ${EXTRA_CONNECTIONS_MAX} more`);
});
