import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type SqlFile = { name: string; text: string };

const getFolder = (name: "migrations" | "functions") => join(import.meta.dir, "../../sql", name);

// These functions are imported as macros, which the bundler runs, so that the executable contains the SQL.

/** Reads the SQL files in a folder of sql/, ordered by name. */
export function readSqlFiles(folder: "migrations" | "functions"): SqlFile[] {
  return readdirSync(getFolder(folder))
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(getFolder(folder), name), "utf8") }));
}

/** Reads the number in sql/functions/REVISION, which increases whenever a file in that folder changes. */
export function readFunctionsRevision(): number {
  return Number.parseInt(readFileSync(join(getFolder("functions"), "REVISION"), "utf8"), 10);
}
