import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type MigrationFile = { name: string; text: string };

/** The files of sql/. Imported as a macro: the bundler runs it, so the executable carries the texts. */
export function readMigrationFiles(): MigrationFile[] {
  const folder = join(import.meta.dir, "../../sql");
  return readdirSync(folder)
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(folder, name), "utf8") }));
}
