import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "../config.ts";
import type { ServerSecret } from "../db/archive.ts";
import { findDataDirProblem, openDataDir } from "../lib/data-dir.ts";
import { createSecret } from "../lib/id.ts";
import { CommandError } from "./command.ts";

const FILE_NAME = "jwt-secret";
const SECRET_CHARS_MIN = 32;

/**
 * Returns the secret that signs access tokens: `JWT_SECRET`, which is required in production. If it isn't set, a secret is
 * generated once and stored in `DATA_DIR`, so that tokens remain valid after a restart.
 * @throws CommandError if the file can't be used.
 */
export function loadJwtSecret(config: Pick<Config, "JWT_SECRET" | "DATA_DIR">): string {
  if (config.JWT_SECRET) return config.JWT_SECRET;
  const path = join(config.DATA_DIR, FILE_NAME);
  try {
    const secret = readSecret(path) ?? createSecretFile(path, config.DATA_DIR);
    if (secret.length >= SECRET_CHARS_MIN) return secret;
  } catch {
    const problem = findDataDirProblem(config.DATA_DIR);
    if (problem !== null) throw new CommandError(problem);
    throw new CommandError(`${path} can't be read or written; make DATA_DIR writable, or set JWT_SECRET.`);
  }
  throw new CommandError(`${path} is damaged; delete it (all users must log in again), or set JWT_SECRET.`);
}

/** Returns the secret that the server uses; null if none exists yet. */
export function findServerSecret(config: Pick<Config, "JWT_SECRET" | "DATA_DIR">): ServerSecret | null {
  if (config.JWT_SECRET) return { value: config.JWT_SECRET, isConfigured: true };
  const path = join(config.DATA_DIR, FILE_NAME);
  try {
    const value = readSecret(path);
    return value === null ? null : { value, isConfigured: false };
  } catch {
    throw new CommandError(`${path} can't be read; run this as the user who runs \`parley serve\`.`);
  }
}

/**
 * Writes the secret from a backup to `DATA_DIR`. If a different secret exists there, its file is renamed to `jwt-secret.old`.
 * @returns the path of the file.
 * @throws CommandError if it can't be written.
 */
export function storeJwtSecret(dataDir: string, secret: string): string {
  const path = join(dataDir, FILE_NAME);
  try {
    openDataDir(dataDir);
    const existingSecret = readSecret(path);
    if (existingSecret === secret) return path;
    const temporaryPath = `${path}.${process.pid}`;
    writeFileSync(temporaryPath, `${secret}\n`, { mode: 0o600 });
    if (existingSecret !== null) renameSync(path, `${path}.old`);
    renameSync(temporaryPath, path);
    return path;
  } catch {
    throw new CommandError(`${path} can't be written; make DATA_DIR writable, and restore again.`);
  }
}

function readSecret(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}

/**
 * Writes a new secret to a temporary file and links it into place, so that no process can read a partial secret, and two
 * processes that start simultaneously use the same one.
 */
function createSecretFile(path: string, directory: string): string {
  openDataDir(directory);
  const temporaryPath = `${path}.${process.pid}`;
  writeFileSync(temporaryPath, `${createSecret()}\n`, { mode: 0o600 });
  try {
    linkSync(temporaryPath, path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) throw error;
  } finally {
    rmSync(temporaryPath, { force: true });
  }
  return readFileSync(path, "utf8").trim();
}
