/** Paths deliberately missing in the OpenAPI document, each with the reason. */
const leftOut: readonly [RegExp, string][] = [
  [/^\/swagger(?:\.md|\/json|\/scalar-[\w.-]+\.js)?$/, "the document itself, its page and the page's script"],
  [/^\/asyncapi(?:\.json|\.yaml|\.md)?$/, "the AsyncAPI document and its page"],
  [/^\/docs(?:\.md|\/.*)?$|^\/llms(?:-full)?\.txt$/, "the guides, for people and for models"],
  [/^\/problems\.md$/, "the markdown of /problems"],
  [/^\/realtime$/, "the WebSocket: in the AsyncAPI document"],
];

export const isLeftOut = (path: string): boolean => leftOut.some(([pattern]) => pattern.test(path));
