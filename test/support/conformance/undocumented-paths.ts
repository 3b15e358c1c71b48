/** The paths that are deliberately not in the OpenAPI document, with what they serve. */
const undocumentedPaths: readonly [RegExp, string][] = [
  [/^\/swagger(?:\.md|\/json|\/scalar-[\w.-]+\.js)?$/, "the OpenAPI document, its page and the page's script"],
  [/^\/asyncapi(?:\.json|\.yaml|\.md)?$/, "the AsyncAPI document and its page"],
  [/^\/docs(?:\.md|\/.*)?$|^\/llms(?:-full)?\.txt$/, "the guides as HTML, and as Markdown for models"],
  [/^\/problems\.md$/, "the Markdown version of /problems"],
  [/^\/realtime$/, "the WebSocket, which is in the AsyncAPI document"],
];

export const isUndocumentedPath = (path: string): boolean => undocumentedPaths.some(([pattern]) => pattern.test(path));
