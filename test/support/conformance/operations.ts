import { loadDocument } from "./document.ts";

type Content = Record<string, unknown>;
type Response = { $ref?: string; content?: Content };
type Operation = { operationId: string; responses: Record<string, Response> };
type OpenApi = {
  paths: Record<string, Record<string, Operation>>;
  components: { responses: Record<string, Response> };
};

const openapi = loadDocument<OpenApi>("openapi.json");

/** The documented operation for a request's method and path. */
export type FoundOperation = { method: string; template: string; operation: Operation };

type Pattern = FoundOperation & { pattern: RegExp };
let patterns: Pattern[] | undefined;

/** Returns the patterns of all operations. Patterns with fewer parameters come first, because they are more specific. */
function listPatterns(): Pattern[] {
  const unsortedPatterns = Object.entries(openapi.getDocument().paths).flatMap(([template, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      method: method.toUpperCase(),
      template,
      operation,
      pattern: compileTemplate(template),
    })),
  );
  const countParameters = ({ template }: Pattern) => template.split("{").length;
  return unsortedPatterns.sort((a, b) => countParameters(a) - countParameters(b));
}

function compileTemplate(template: string): RegExp {
  const source = template
    .replaceAll(/[.+^$()|[\]\\]/g, "\\$&")
    // A `{path}` parameter may contain slashes.
    .replaceAll("{path}", ".+")
    .replaceAll(/\{[^}]+\}/g, "[^/]+");
  return new RegExp(`^${source}/?$`);
}

export function findOperation(method: string, path: string): FoundOperation | null {
  patterns ??= listPatterns();
  return patterns.find((candidate) => candidate.method === method && candidate.pattern.test(path)) ?? null;
}

/** Whether any method of this path is documented. */
export function isDocumentedPath(path: string): boolean {
  patterns ??= listPatterns();
  return patterns.some(({ pattern }) => pattern.test(path));
}

/** Returns a status's documented media types and the paths of their schemas, or null if the status isn't documented. */
export function findResponse(
  { method, template, operation }: FoundOperation,
  status: number,
): { mediaTypes: string[]; getSchemaPath(mediaType: string): string[]; eventSchemaPath: string[] | null } | null {
  const response = operation.responses[status];
  if (!response) return null;
  const sharedName = response.$ref?.split("/").at(-1);
  const content =
    sharedName === undefined ? response.content : openapi.getDocument().components.responses[sharedName]?.content;
  const basePath =
    sharedName === undefined
      ? ["paths", template, method.toLowerCase(), "responses", String(status)]
      : ["components", "responses", sharedName];
  const stream = content?.["text/event-stream"] as object | undefined;
  return {
    mediaTypes: Object.keys(content ?? {}),
    getSchemaPath: (type) => [...basePath, "content", type, "schema"],
    eventSchemaPath: stream && "x-event" in stream ? [...basePath, "content", "text/event-stream", "x-event"] : null,
  };
}

export const findBodyError = openapi.findError;
