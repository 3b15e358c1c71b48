/**
 * Thrown if a backup can't be written, read or restored. The message tells the operator what to do. The reasons are:
 * - `damaged`: bytes have changed. `truncated`: the end is missing. `foreign`: the file isn't a Parley backup.
 * - `newer`: a newer Parley made the backup. `passphrase`: the passphrase is missing or wrong.
 * - `file`: the file can't be created or read.
 * - `target`: the database can't be backed up, or a backup can't be restored into it.
 */
export class ArchiveError extends Error {
  constructor(
    readonly reason: "damaged" | "truncated" | "foreign" | "newer" | "passphrase" | "file" | "target",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = "ArchiveError";
  }
}

/** Creates the error for a damaged backup. @param damage describes what is damaged. */
export const createDamagedError = (damage: string): ArchiveError =>
  new ArchiveError(
    "damaged",
    `The backup is damaged (${damage}). Copy it again from its source, or use a different backup.`,
  );

export const createTruncatedError = (bytes: number): ArchiveError =>
  new ArchiveError(
    "truncated",
    `The backup is truncated: it ends after ${bytes} bytes, before its end marker. Copy it again from its source, or use a different backup.`,
  );
