import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type SqlFile = { name: string; text: string };

const folderOf = (name: "migrations" | "functions") => join(import.meta.dir, "../../sql", name);

// These functions are imported as macros. The bundler runs them, so the executable contains the SQL.

/** Reads the SQL files in a folder of sql/, ordered by name. */
export function readSqlFiles(folder: "migrations" | "functions"): SqlFile[] {
  return readdirSync(folderOf(folder))
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(folderOf(folder), name), "utf8") }));
}

/** Reads the first word of sql/functions/REVISION, a number that increases with each change of a file in that folder. */
export function readFunctionsRevision(): number {
  return Number.parseInt(readFileSync(join(folderOf("functions"), "REVISION"), "utf8"), 10);
}
