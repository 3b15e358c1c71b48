import { lchownSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError } from "../command.ts";
import type { ProgramOptions } from "./candidate.ts";

/**
 * Creates the backup folder if it is missing, and makes the user who writes the backup its owner.
 * @throws CommandError if the folder can't be created.
 */
export function createBackupFolder(folder: string, user: ProgramOptions["user"]): void {
  try {
    const firstCreated = mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (firstCreated === undefined || !user) return;
    // Changes the owner of every created parent too, or the user couldn't access the folder. `lchown` doesn't follow symbolic
    // links, which another user could have created there in the meantime.
    for (let created = folder; created.startsWith(firstCreated); created = dirname(created))
      lchownSync(created, user.uid, user.gid);
  } catch {
    throw new CommandError(`${folder} can't be created for the backup; choose another path with --backup FILE.`);
  }
}
