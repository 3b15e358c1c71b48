/** Thrown if the embedded Postgres can't be started. The message tells the operator how to fix it. */
export class EmbeddedPostgresError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "EmbeddedPostgresError";
  }
}

/** Thrown if another running Parley uses this `DATA_DIR`. */
export class DataDirectoryInUseError extends EmbeddedPostgresError {}

/** Creates the error for a folder that the server's user can't access. */
export function createUnreachableError(path: string, { uid }: { uid: number }): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded Postgres runs as user ${uid}, who has no access to ${path}: open the parent folders to others (chmod o+x), or start Parley as a non-root user.`,
  );
}
