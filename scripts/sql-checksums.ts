// `make sql`: adds new migrations to sql/migrations/SHA256SUMS, and raises sql/functions/REVISION if a function file has
// changed. Exits with 1 if a listed migration has changed.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { addChecksum } from "../src/db/migrate.ts";
import { readSqlFiles } from "../src/db/sql-files.ts";
import { formatRevision, hashFiles, parseSums } from "./sql-revision.ts";

const root = join(import.meta.dir, "../sql");
const sumsPath = join(root, "migrations/SHA256SUMS");
const known = parseSums(readFileSync(sumsPath, "utf8"));
const files = readSqlFiles("migrations").map(addChecksum);
const changed = files.filter(({ name, checksum }) => known.has(name) && known.get(name) !== checksum);
for (const { name } of changed)
  console.error(
    `${name} has changed. Restore it and write a new migration; before the first release, delete its line in SHA256SUMS.`,
  );
if (changed.length > 0) process.exit(1);
writeFileSync(sumsPath, files.map(({ name, checksum }) => `${checksum}  ${name}\n`).join(""));

const revisionPath = join(root, "functions/REVISION");
const [revision = "0", hash] = readFileSync(revisionPath, "utf8").trim().split(" ");
const now = hashFiles(readSqlFiles("functions"));
if (now !== hash) writeFileSync(revisionPath, formatRevision(Number(revision) + 1, now));
