/** Paths deliberately missing in the OpenAPI document, each with the reason. */
const leftOut: readonly [RegExp, string][] = [
  [/^\/swagger(?:\/json|\/scalar-[\w.-]+\.js)?$/, "the document itself, its page and the page's script"],
  [/^\/asyncapi(?:\.json|\.yaml)?$/, "the AsyncAPI document and its page"],
  [/^\/realtime$/, "the WebSocket: in the AsyncAPI document"],
];

export const isLeftOut = (path: string): boolean => leftOut.some(([pattern]) => pattern.test(path));
