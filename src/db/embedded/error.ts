/** The embedded Postgres cannot be started. The message tells the operator how to fix it. */
export class EmbeddedPostgresError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "EmbeddedPostgresError";
  }
}

/** A running Parley holds this `DATA_DIR`. */
export class DataDirectoryInUseError extends EmbeddedPostgresError {}

/** The server does not run as root, and its user has no access to `path`. */
export function unreachable(path: string, { uid }: { uid: number }): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded Postgres runs as user ${uid}, who has no access to ${path}: open the parent folders to others (chmod o+x), or start Parley as a non-root user.`,
  );
}
