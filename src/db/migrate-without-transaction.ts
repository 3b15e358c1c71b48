import { type Database, getPooling, getReservedPool, isStatementTimeout, type Sql } from "./client.ts";
import type { SqlFile } from "./sql-files.ts";

const CONCURRENT_INDEX = /\bcreate\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?"?(\w+)"?/gi;

export class MigrationError extends Error {}

/**
 * Runs a migration outside a transaction: on a separate connection, statement by statement, while an idle transaction holds the migration
 * lock. Such migrations must use `create index concurrently if not exists`, because they are run again after a crash. A crash may leave an
 * invalid index, which is dropped first.
 * @throws MigrationError if the migration needs a transaction, or takes too long behind a pooler. Also throws the errors of its statements.
 */
export async function runOutsideTransaction(database: Database, file: SqlFile): Promise<void> {
  if (file.text.includes("$$"))
    throw new MigrationError(`${file.name} has a function body, which needs a transaction.`);
  // The transaction with the lock may use the only connection of the main pool.
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
    // A concurrent index build waits for other transactions' locks.
    await connection`set lock_timeout = 0`;
    await runStatements(connection, text);
  } finally {
    await connection`reset statement_timeout`.catch(() => {});
    await connection`reset lock_timeout`.catch(() => {});
  }
}

/** Runs the migration with the role's timeouts. Changed timeouts would remain on a connection that the pooler gives to other clients. */
async function runWithTimeouts(connection: Sql, { name, text }: SqlFile): Promise<void> {
  try {
    await runStatements(connection, text);
  } catch (error) {
    if (!isStatementTimeout(error)) throw error;
    throw new MigrationError(
      `${name} takes longer than the role's statement_timeout, which cannot be changed behind a pooler; ` +
        "run `parley migrate` once with a DATABASE_URL that connects directly to Postgres.",
    );
  }
}

async function runStatements(connection: Sql, text: string): Promise<void> {
  for (const [, index = ""] of text.matchAll(CONCURRENT_INDEX)) {
    const [invalidIndex] = await connection`
      select 1 from pg_index where indexrelid = to_regclass(${index}) and not indisvalid`;
    if (invalidIndex) await connection`drop index concurrently ${connection(index)}`;
  }
  for (const statement of text.split(/;[ \t]*(?:\n|$)/)) await connection.unsafe(statement);
}
