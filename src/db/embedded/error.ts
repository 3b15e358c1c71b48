/** The embedded Postgres cannot be started; the message is a sentence for the operator that says how to mend it. */
export class EmbeddedPostgresError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "EmbeddedPostgresError";
  }
}

/** A living Parley holds this `DATA_DIR`. */
export class DataDirectoryInUseError extends EmbeddedPostgresError {}

/** The server does not run as root, and the user that it runs as cannot pass to `path`. */
export function unreachable(path: string, { uid }: { uid: number }): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    `The embedded Postgres runs as user ${uid}, who cannot reach ${path}: open the folders above it to others (chmod o+x), or start Parley as an ordinary user.`,
  );
}
