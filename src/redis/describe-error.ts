/** Describes an error for the log. Includes only known error codes, because a message may contain a URL with a password. */
export function describeRedisError(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  const { code } = error as { code?: unknown };
  if (typeof code === "string") return code;
  if (/timed out/i.test(error.message)) return "timed out";
  return /^(?:NOAUTH|WRONGPASS|ERR|LOADING|NOPERM)\b/.exec(error.message)?.[0] ?? error.name;
}
