// `make sql`: adds new migrations to sql/migrations/SHA256SUMS, and increments sql/functions/REVISION if a function file has
// changed. Exits with code 1 if a listed migration has changed.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { addChecksum } from "../src/db/migrate.ts";
import { readSqlFiles } from "../src/db/sql-files.ts";
import { formatRevision, hashFiles, parseSums } from "./sql-revision.ts";

const root = join(import.meta.dir, "../sql");
const sumsPath = join(root, "migrations/SHA256SUMS");
const recordedSums = parseSums(readFileSync(sumsPath, "utf8"));
const files = readSqlFiles("migrations").map(addChecksum);
const changedFiles = files.filter(
  ({ name, checksum }) => recordedSums.has(name) && recordedSums.get(name) !== checksum,
);
for (const { name } of changedFiles)
  console.error(
    `${name} has changed. Restore it and write a new migration; before the first release, delete its line in SHA256SUMS.`,
  );
if (changedFiles.length > 0) process.exit(1);
writeFileSync(sumsPath, files.map(({ name, checksum }) => `${checksum}  ${name}\n`).join(""));

const revisionPath = join(root, "functions/REVISION");
const [revision = "0", hash] = readFileSync(revisionPath, "utf8").trim().split(" ");
const newHash = hashFiles(readSqlFiles("functions"));
if (newHash !== hash) writeFileSync(revisionPath, formatRevision(Number(revision) + 1, newHash));
