import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type SqlFile = { name: string; text: string };

/** The files of a folder of sql/, by name. Imported as a macro: the bundler runs it, so the executable carries the texts. */
export function readSqlFiles(folder: "migrations" | "functions"): SqlFile[] {
  const path = join(import.meta.dir, "../../sql", folder);
  return readdirSync(path)
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(path, name), "utf8") }));
}
