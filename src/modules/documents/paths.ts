/** Bytes of a document's path; with them, a cursor still fits into its own limit. */
const PATH_BYTES_MAX = 300;
/** Names in a path: folders below the documents folder, plus the file. */
export const PATH_DEPTH_MAX = 8;

/**
 * The names that a path like `guides/start.md` is made of. Null for everything that cannot be a document: climbing
 * (`..`), absolute, hidden, with a backslash or a control character, too long, or no `.md`.
 */
export function splitDocumentPath(path: string): string[] | null {
  const names = path.split("/");
  if (names.length > PATH_DEPTH_MAX || !path.endsWith(".md") || !names.every(isVisibleName)) return null;
  // As JSON, because that is how a cursor carries it: quotes count double.
  return Buffer.byteLength(JSON.stringify(path)) <= PATH_BYTES_MAX + 2 ? names : null;
}

/** Whether a file or folder of this name may be shown. Hidden names start with a dot, `.` and `..` among them. */
export function isVisibleName(name: string): boolean {
  return name !== "" && !name.startsWith(".") && !/[\\\p{Cc}\uFFFD]/u.test(name) && name.isWellFormed();
}
