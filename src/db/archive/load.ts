import { once } from "node:events";
import type { Writable } from "node:stream";
import type { Sql } from "../client.ts";
import { quoteIdentifier } from "./contents.ts";
import { createDamagedError } from "./error.ts";
import type { ArchiveHeader } from "./manifest.ts";

export interface Loader {
  /**
   * Checks that the backup's tables exist, and removes rows that migrations inserted.
   * @param createdTables the tables that this restore has created. Only their rows are removed.
   * @throws if `createdTables` doesn't include all of the backup's tables.
   */
  prepare(tables: ArchiveHeader["tables"], createdTables: readonly string[]): Promise<void>;
  add(table: string, columns: string[], content: Buffer): Promise<void>;
  finish(table: string): Promise<void>;
}

/** Creates a loader, which loads tables one after another with COPY. */
export function openLoader(sql: Sql): Loader {
  let openTable: { table: string; stream: Writable } | undefined;

  return {
    async prepare(tables, createdTables) {
      const rows = await sql<{ name: string; columns: string[] }[]>`
        select c.relname as name, array(
          select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ) as columns
        from pg_class c where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
          and c.relname = any (${[...createdTables]}::text[])`;
      const columnsByTable = new Map(rows.map(({ name, columns }) => [name, new Set(columns)]));
      for (const { name, columns } of tables) {
        const missingColumn = columns.find((column) => !columnsByTable.get(name)?.has(column));
        if (missingColumn) throw createDamagedError(`its schema has no ${name}.${missingColumn}`);
      }
      if (tables.length > 0) await sql.unsafe(`truncate ${tables.map(({ name }) => quoteIdentifier(name)).join(", ")}`);
    },

    async add(table, columns, content) {
      if (!openTable) {
        // With `freeze`, a later vacuum doesn't have to rewrite the rows. All sessions can see them once the transaction is committed.
        const copy = `copy ${quoteIdentifier(table)} (${columns.map(quoteIdentifier).join(", ")}) from stdin with (format text, freeze)`;
        openTable = { table, stream: await sql.unsafe(copy).writable() };
        // The next write throws the error. After the last write, `finish` throws it.
        openTable.stream.on("error", () => {});
      }
      await writeChunk(openTable.stream, content);
    },

    async finish(table) {
      if (openTable?.table !== table) return;
      const { stream } = openTable;
      openTable = undefined;
      const finished = once(stream, "finish");
      stream.end();
      await finished;
    },
  };
}

function writeChunk(stream: Writable, content: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  stream.once("error", reject);
  stream.write(content, (error) => (error ? reject(error) : resolve()));
  return promise.finally(() => stream.off("error", reject));
}
