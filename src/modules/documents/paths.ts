/** Maximum size of a document's path, so that a cursor that contains the path stays below the limit for cursors. */
const PATH_BYTES_MAX = 300;
/** Maximum number of names in a path: folders in the documents folder, and the file. */
export const PATH_DEPTH_MAX = 8;

/**
 * Splits a path such as `guides/start.md` into names. Returns null for paths that no document can have: `..`, absolute or hidden paths, and
 * paths that have backslashes or control characters, are too long, or don't end with `.md`.
 */
export function splitDocumentPath(path: string): string[] | null {
  const names = path.split("/");
  if (names.length > PATH_DEPTH_MAX || !path.endsWith(".md") || !names.every(isVisibleName)) return null;
  // Measured as JSON, because cursors contain JSON, in which quotes take two bytes.
  return Buffer.byteLength(JSON.stringify(path)) <= PATH_BYTES_MAX + 2 ? names : null;
}

/** Returns whether a file or folder with this name can be shown. Hidden names start with a dot, including `.` and `..`. */
export function isVisibleName(name: string): boolean {
  return name !== "" && !name.startsWith(".") && !/[\\\p{Cc}\uFFFD]/u.test(name) && name.isWellFormed();
}
