import { lchownSync, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { CommandError } from "../command.ts";
import type { Runner } from "./candidate.ts";

/**
 * Makes the folder of the backup, if it is missing, for the user who writes the backup.
 * @throws CommandError if it can't be made.
 */
export function openBackupFolder(folder: string, user: Runner["user"]): void {
  try {
    const first = mkdirSync(folder, { recursive: true, mode: 0o700 });
    if (first === undefined || !user) return;
    // Each one that was just made, or the user could not enter it. A link that somebody put in its place is not followed.
    for (let made = folder; made.startsWith(first); made = dirname(made)) lchownSync(made, user.uid, user.gid);
  } catch {
    throw new CommandError(`${folder} can't be created for the backup; name another place with --backup FILE.`);
  }
}
