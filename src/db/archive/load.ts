import { once } from "node:events";
import type { Writable } from "node:stream";
import type { Sql } from "../client.ts";
import { quote } from "./contents.ts";
import { createDamaged } from "./error.ts";
import type { ArchiveHeader } from "./manifest.ts";

export interface Loader {
  /**
   * Checks that these tables exist, and removes rows that migrations inserted.
   * @param created the tables just created: no other table is touched, even if the backup names one.
   */
  prepare(tables: ArchiveHeader["tables"], created: readonly string[]): Promise<void>;
  add(table: string, columns: string[], content: Buffer): Promise<void>;
  end(table: string): Promise<void>;
}

/** Loads tables one after the other with COPY. */
export function openLoader(sql: Sql): Loader {
  let open: { table: string; stream: Writable } | undefined;

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
      if (!open) {
        // Frozen rows don't have to be rewritten by a later vacuum: they are visible to everyone once this is committed.
        const copy = `copy ${quote(table)} (${columns.map(quote).join(", ")}) from stdin with (format text, freeze)`;
        open = { table, stream: await sql.unsafe(copy).writable() };
        // An error surfaces at the next write, or at the end.
        open.stream.on("error", () => {});
      }
      await write(open.stream, content);
    },

    async end(table) {
      if (open?.table !== table) return;
      const { stream } = open;
      open = undefined;
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
