import { once } from "node:events";
import type { Writable } from "node:stream";
import type { Sql } from "../client.ts";
import { quote } from "./contents.ts";
import { createDamaged } from "./error.ts";
import type { ArchiveHeader } from "./manifest.ts";

export interface Loader {
  /**
   * Checks that the backup's tables exist, and removes rows that migrations inserted.
   * @param created the tables that were just created. Other tables aren't changed, even if they are in the backup.
   */
  prepare(tables: ArchiveHeader["tables"], created: readonly string[]): Promise<void>;
  add(table: string, columns: string[], content: Buffer): Promise<void>;
  finish(table: string): Promise<void>;
}

/** Creates a loader, which loads tables one after another with COPY. */
export function openLoader(sql: Sql): Loader {
  let openTable: { table: string; stream: Writable } | undefined;

  return {
    async prepare(tables, created) {
      const rows = await sql<{ name: string; columns: string[] }[]>`
        select c.relname as name, array(
          select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        ) as columns
        from pg_class c where c.relnamespace = current_schema()::regnamespace and c.relkind = 'r'
          and c.relname = any (${[...created]}::text[])`;
      const found = new Map(rows.map(({ name, columns }) => [name, new Set(columns)]));
      for (const { name, columns } of tables) {
        const missing = columns.find((column) => !found.get(name)?.has(column));
        if (missing) throw createDamaged(`its schema has no ${name}.${missing}`);
      }
      if (tables.length > 0) await sql.unsafe(`truncate ${tables.map(({ name }) => quote(name)).join(", ")}`);
    },

    async add(table, columns, content) {
      if (!openTable) {
        // A later vacuum needn't rewrite frozen rows. They become visible to all sessions when the transaction is committed.
        const copy = `copy ${quote(table)} (${columns.map(quote).join(", ")}) from stdin with (format text, freeze)`;
        openTable = { table, stream: await sql.unsafe(copy).writable() };
        // Errors are thrown by the next write, or by `end`.
        openTable.stream.on("error", () => {});
      }
      await write(openTable.stream, content);
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

function write(stream: Writable, content: Buffer): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  stream.once("error", reject);
  stream.write(content, (error) => (error ? reject(error) : resolve()));
  return promise.finally(() => stream.off("error", reject));
}
