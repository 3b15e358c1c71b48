import { type Database, getPooling, getReservedPool, isStatementTimeout, type Sql } from "./client.ts";
import type { SqlFile } from "./sql-files.ts";

const CONCURRENT_INDEX = /\bcreate\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?"?(\w+)"?/gi;

export class MigrationError extends Error {}

/**
 * Runs a migration on a separate connection, statement by statement, while an idle transaction holds the lock. A crash
 * midway leaves an invalid index, which is dropped first; so write `create index concurrently if not exists`.
 * @throws MigrationError if it cannot run outside a transaction, or would take too long behind a pooler; whatever a
 * statement throws.
 */
export async function runOutsideTransaction(database: Database, file: SqlFile): Promise<void> {
  if (file.text.includes("$$"))
    throw new MigrationError(`${file.name} has a function body, which needs a transaction.`);
  // The lock may hold the only connection of the main pool.
  const connection = await getReservedPool(database).reserve();
  try {
    if (getPooling(database) === "transaction") await runWithTimeouts(connection, file);
    else await runWithoutTimeouts(connection, file.text);
  } finally {
    connection.release();
  }
}

async function runWithoutTimeouts(connection: Sql, text: string): Promise<void> {
  try {
    await connection`set statement_timeout = 0`;
    // A concurrent index build waits for transactions through locks.
    await connection`set lock_timeout = 0`;
    await runStatements(connection, text);
  } finally {
    await connection`reset statement_timeout`.catch(() => {});
    await connection`reset lock_timeout`.catch(() => {});
  }
}

/** Keeps the role's timeouts: settings made here would stay on a connection that the pooler gives to others. */
async function runWithTimeouts(connection: Sql, { name, text }: SqlFile): Promise<void> {
  try {
    await runStatements(connection, text);
  } catch (error) {
    if (!isStatementTimeout(error)) throw error;
    throw new MigrationError(
      `${name} takes longer than the statement_timeout of the role, which cannot be changed behind a pooler; ` +
        "run `parley migrate` once with a DATABASE_URL that points to Postgres itself.",
    );
  }
}

async function runStatements(connection: Sql, text: string): Promise<void> {
  for (const [, index = ""] of text.matchAll(CONCURRENT_INDEX)) {
    const [invalid] = await connection`
      select 1 from pg_index where indexrelid = to_regclass(${index}) and not indisvalid`;
    if (invalid) await connection`drop index concurrently ${connection(index)}`;
  }
  for (const statement of text.split(/;[ \t]*(?:\n|$)/)) await connection.unsafe(statement);
}
