import { lchownSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError } from "../command.ts";
import type { Runner } from "./candidate.ts";

/**
 * Creates the backup folder if it is missing, owned by the user who writes the backup.
 * @throws CommandError if the folder can't be created.
 */
export function openBackupFolder(folder: string, user: Runner["user"]): void {
  try {
    const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (first === undefined || !user) return;
    // Changes the owner of every created folder, or the user couldn't enter it. `lchown` doesn't follow symbolic links, which
    // somebody could have created there meanwhile.
    for (let made = folder; made.startsWith(first); made = dirname(made)) lchownSync(made, user.uid, user.gid);
  } catch {
    throw new CommandError(`${folder} can't be created for the backup; choose another place with --backup FILE.`);
  }
}
