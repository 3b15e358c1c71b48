import type { ErrorCode } from "../../lib/error-codes.ts";

/** An error that aborts an import. `detail` is shown to the user. */
export class ImportError extends Error {
  override readonly name = "ImportError";

  constructor(
    readonly code: ErrorCode,
    readonly detail: string,
  ) {
    super(detail);
  }
}
