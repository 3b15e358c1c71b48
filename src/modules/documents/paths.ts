/** Maximum bytes of a document's path, so that a cursor that contains it stays within its own limit. */
const PATH_BYTES_MAX = 300;
/** Maximum names in a path: folders below the documents folder, plus the file. */
export const PATH_DEPTH_MAX = 8;

/**
 * Splits a path like `guides/start.md` into names. Returns null for paths that can't be a document's: `..`, absolute or
 * hidden paths, and paths that have backslashes or control characters, are too long or don't end in `.md`.
 */
export function splitDocumentPath(path: string): string[] | null {
  const names = path.split("/");
  if (names.length > PATH_DEPTH_MAX || !path.endsWith(".md") || !names.every(isVisibleName)) return null;
  // Measured as JSON, because cursors contain JSON: quotes count double.
  return Buffer.byteLength(JSON.stringify(path)) <= PATH_BYTES_MAX + 2 ? names : null;
}

/** Whether a file or folder with this name may be shown. Hidden names start with a dot, including `.` and `..`. */
export function isVisibleName(name: string): boolean {
  return name !== "" && !name.startsWith(".") && !/[\\\p{Cc}\uFFFD]/u.test(name) && name.isWellFormed();
}
