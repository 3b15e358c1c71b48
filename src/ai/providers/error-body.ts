/** The SDKs keep only a part of an error's body, each another one; by the error that they threw, this keeps all of it. */
const bodies = new WeakMap<object, string>();

/** Notes the body of the response that an SDK made this error of. */
export function keepErrorBody(error: unknown, text: string): void {
  if (typeof error === "object" && error !== null) bodies.set(error, text);
}

/** The body that the error came with, parsed; undefined if there is none, or no JSON. */
export function readErrorBody(error: unknown): unknown {
  const text = typeof error === "object" && error !== null ? bodies.get(error) : undefined;
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
