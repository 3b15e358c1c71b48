import { UsageError } from "./command.ts";
import { loadSecretFrom } from "./load-config.ts";
import { readPassword } from "./read-password.ts";

const SETTING = "BACKUP_PASSPHRASE";
const PASSPHRASE_BYTES_MAX = 1_024;

/** Returns the configured passphrase, if any. */
export const findPassphrase = (environment: Record<string, string | undefined>): string | undefined =>
  checkLength(loadSecretFrom(environment, SETTING));

/**
 * Reads a passphrase from the terminal, or else from the first line of standard input.
 * @param isNew if true, a user at a terminal must enter the passphrase twice.
 * @throws UsageError if no passphrase was entered.
 */
export async function askPassphrase(isNew = false): Promise<string> {
  const passphrase = checkLength((await readPassword("Passphrase of the backup: ")).trim() || undefined);
  if (passphrase === undefined)
    throw new UsageError(`The backup needs a passphrase; set ${SETTING}, or pass it on standard input.`);
  if (isNew && process.stdin.isTTY && (await readPassword("Repeat it: ")).trim() !== passphrase)
    throw new UsageError("The two passphrases differ; start again.");
  return passphrase;
}

function checkLength(passphrase: string | undefined): string | undefined {
  if (passphrase !== undefined && Buffer.byteLength(passphrase) > PASSPHRASE_BYTES_MAX)
    throw new UsageError(`The passphrase is longer than ${PASSPHRASE_BYTES_MAX} bytes; use a shorter one.`);
  return passphrase;
}
