import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config.ts";
import { openDataDir } from "../lib/data-dir.ts";
import { createSecret } from "../lib/id.ts";
import { CommandError } from "./command.ts";

const FILE_NAME = "jwt-secret";
const SECRET_CHARS_MIN = 32;

/**
 * What signs access tokens: `JWT_SECRET`, or a secret that is made once and kept in `DATA_DIR` (the configuration
 * requires one in production), so that tokens stay good over a restart.
 * @throws CommandError when the file cannot be used.
 */
export function loadJwtSecret(config: Pick<Config, "JWT_SECRET" | "DATA_DIR">): string {
  if (config.JWT_SECRET) return config.JWT_SECRET;
  const path = join(config.DATA_DIR, FILE_NAME);
  try {
    const secret = readSecret(path) ?? createSecretFile(path, config.DATA_DIR);
    if (secret.length >= SECRET_CHARS_MIN) return secret;
  } catch {
    throw new CommandError(`${path} cannot be read or written; make DATA_DIR writable, or set JWT_SECRET.`);
  }
  throw new CommandError(`${path} is damaged; delete it (everybody has to log in again), or set JWT_SECRET.`);
}

function readSecret(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

/** Written aside and linked into place: nobody ever reads half a secret, and of two starters at once one wins. */
function createSecretFile(path: string, directory: string): string {
  openDataDir(directory);
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, `${createSecret()}\n`, { mode: 0o600 });
  try {
    linkSync(draft, path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    rmSync(draft, { force: true });
  }
  return readFileSync(path, "utf8").trim();
}
