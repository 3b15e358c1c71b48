/**
 * A backup cannot be written, read or restored; the message is a sentence for the operator that says what to do.
 * - `damaged`: bytes have changed. `truncated`: its end is missing. `foreign`: it is no backup of Parley.
 * - `newer`: a newer Parley made it. `passphrase`: it is missing or wrong.
 * - `file`: the file can't be made or read, for reasons of the system.
 * - `target`: this database can't be backed up, or not be restored into.
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

/** @param what says where, for people who look closer. */
export const createDamaged = (what: string): ArchiveError =>
  new ArchiveError(
    "damaged",
    `The backup is damaged (${what}). Copy it again from where it was made, or use another one.`,
  );

export const createTruncated = (bytes: number): ArchiveError =>
  new ArchiveError(
    "truncated",
    `The backup is truncated: it ends after ${bytes} bytes, before its end mark. Copy it again from where it was made, or use another one.`,
  );
