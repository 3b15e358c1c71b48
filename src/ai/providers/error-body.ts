/** Complete response bodies, keyed by the error that an SDK threw. The error itself contains only part of the body. */
const bodies = new WeakMap<object, string>();

/** Stores the response body of an SDK's error. */
export function storeErrorBody(error: unknown, text: string): void {
  if (typeof error === "object" && error !== null) bodies.set(error, text);
}

/** Returns the parsed body of an error, or undefined if there is no body or it isn't JSON. */
export function parseErrorBody(error: unknown): unknown {
  const text = typeof error === "object" && error !== null ? bodies.get(error) : undefined;
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
