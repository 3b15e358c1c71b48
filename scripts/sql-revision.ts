import type { SqlFile } from "../src/db/sql-files.ts";

/** Hashes the names and contents of files into one hash. */
export function hashFiles(files: SqlFile[]): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const { name, text } of files) hasher.update(`${name}\0${text}\0`);
  return hasher.digest("hex");
}

/** Formats the content of sql/functions/REVISION. */
export const formatRevision = (revision: number, hash: string): string => `${revision} ${hash}\n`;

/** Parses sql/migrations/SHA256SUMS, which has the format of `sha256sum`, into a checksum per file name. */
export const parseSums = (text: string): Map<string, string> =>
  new Map(
    text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("  ") as [string, string])
      .map(([sum, name]) => [name, sum]),
  );
