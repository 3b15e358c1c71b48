/** The SDKs keep only part of an error's body, each a different part. This keeps all of it, by the error they threw. */
const bodies = new WeakMap<object, string>();

/** Records the response body from which an SDK created this error. */
export function keepErrorBody(error: unknown, text: string): void {
  if (typeof error === "object" && error !== null) bodies.set(error, text);
}

/** The parsed body of the error; undefined if there is none, or it isn't JSON. */
export function readErrorBody(error: unknown): unknown {
  const text = typeof error === "object" && error !== null ? bodies.get(error) : undefined;
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
