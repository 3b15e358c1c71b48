import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export type SqlFile = { name: string; text: string };

const folderOf = (name: "migrations" | "functions") => join(import.meta.dir, "../../sql", name);

// Imported as macros: the bundler runs them, so the executable contains the texts.

/** The files of a folder of sql/, by name. */
export function readSqlFiles(folder: "migrations" | "functions"): SqlFile[] {
  return readdirSync(folderOf(folder))
    .filter((name) => name.endsWith(".sql"))
    .sort()
    .map((name) => ({ name, text: readFileSync(join(folderOf(folder), name), "utf8") }));
}

/** The first word of sql/functions/REVISION: a number that rises with each change of a file there. */
export function readFunctionsRevision(): number {
  return Number.parseInt(readFileSync(join(folderOf("functions"), "REVISION"), "utf8"), 10);
}
