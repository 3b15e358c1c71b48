import { UsageError } from "./command.ts";
import { loadSecretFrom } from "./load-config.ts";
import { readPassword } from "./read-password.ts";

const SETTING = "BACKUP_PASSPHRASE";
const BYTES_MAX = 1_024;

/** The configured passphrase, if any. */
export const findPassphrase = (environment: Record<string, string | undefined>): string | undefined =>
  check(loadSecretFrom(environment, SETTING));

/**
 * Reads a passphrase from the terminal, otherwise the first line of standard input.
 * @param isNew whether to ask twice on a terminal.
 * @throws UsageError if no passphrase was entered.
 */
export async function askPassphrase(isNew = false): Promise<string> {
  const passphrase = check((await readPassword("Passphrase of the backup: ")).trim() || undefined);
  if (passphrase === undefined)
    throw new UsageError(`The backup needs a passphrase; set ${SETTING}, or pass it on standard input.`);
  if (isNew && process.stdin.isTTY && (await readPassword("Repeat it: ")).trim() !== passphrase)
    throw new UsageError("The two passphrases differ; start again.");
  return passphrase;
}

function check(passphrase: string | undefined): string | undefined {
  if (passphrase !== undefined && Buffer.byteLength(passphrase) > BYTES_MAX)
    throw new UsageError(`The passphrase is longer than ${BYTES_MAX} bytes; use a shorter one.`);
  return passphrase;
}
