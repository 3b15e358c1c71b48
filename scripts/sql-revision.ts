import type { SqlFile } from "../src/db/sql-files.ts";

/** One hash of all files in a folder. */
export function hashFiles(files: SqlFile[]): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const { name, text } of files) hasher.update(`${name}\0${text}\0`);
  return hasher.digest("hex");
}

/** The content of sql/functions/REVISION. */
export const formatRevision = (revision: number, hash: string): string => `${revision} ${hash}\n`;

/** The checksum of each file in sql/migrations/SHA256SUMS, in the format of `sha256sum`. */
export const parseSums = (text: string): Map<string, string> =>
  new Map(
    text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => line.split("  ") as [string, string])
      .map(([sum, name]) => [name, sum]),
  );
