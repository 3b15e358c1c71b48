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
    const firstCreatedFolder = mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (firstCreatedFolder === undefined || !user) return;
    // The owner of every created parent is changed, too. Otherwise the user couldn't access the folder. `lchown` doesn't follow
    // symbolic links, which another user could have created there in the meantime.
    for (
      let createdFolder = folder;
      createdFolder.startsWith(firstCreatedFolder);
      createdFolder = dirname(createdFolder)
    )
      lchownSync(createdFolder, user.uid, user.gid);
  } catch {
    throw new CommandError(`${folder} can't be created for the backup; choose a different path with --backup FILE.`);
  }
}
