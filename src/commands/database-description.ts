import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Config } from "../config.ts";
import { CommandError } from "./command.ts";

type Settings = Pick<Config, "DATABASE_URL" | "DATA_DIR">;

/** Describes the configured database for messages, without its password. */
export function describeConfiguredDatabase({ DATABASE_URL: url, DATA_DIR: directory }: Settings): string {
  if (url === undefined) return `the embedded database in ${resolve(directory)}`;
  if (!URL.canParse(url)) return "the database in DATABASE_URL";
  const { host, pathname } = new URL(url);
  return `the database ${pathname.slice(1) || "in DATABASE_URL"} on ${host || "this machine"}`;
}

/**
 * Checks that the database exists. Otherwise, a command that is run in the wrong folder would create one.
 * @throws CommandError if it doesn't exist.
 */
export function requireDatabase(settings: Settings): void {
  if (settings.DATABASE_URL !== undefined || existsSync(join(settings.DATA_DIR, "postgres"))) return;
  throw new CommandError(
    `No embedded database exists in ${resolve(settings.DATA_DIR)}; run this where \`parley serve\` runs, or set DATA_DIR or DATABASE_URL.`,
  );
}
