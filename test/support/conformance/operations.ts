import { openDocument } from "./document.ts";

type Content = Record<string, unknown>;
type Response = { $ref?: string; content?: Content };
type Operation = { operationId: string; responses: Record<string, Response> };
type OpenApi = {
  paths: Record<string, Record<string, Operation>>;
  components: { responses: Record<string, Response> };
};

const openapi = openDocument<OpenApi>("openapi.json");

/** A documented operation, found by a request's method and path. */
export type FoundOperation = { method: string; template: string; operation: Operation };

type Pattern = FoundOperation & { pattern: RegExp };
let patterns: Pattern[] | undefined;

/** Fixed paths come before those with parameters. */
function listPatterns(): Pattern[] {
  const all = Object.entries(openapi.get().paths).flatMap(([template, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      method: method.toUpperCase(),
      template,
      operation,
      pattern: compile(template),
    })),
  );
  const parametersOf = ({ template }: Pattern) => template.split("{").length;
  return all.sort((a, b) => parametersOf(a) - parametersOf(b));
}

function compile(template: string): RegExp {
  const source = template
    .replaceAll(/[.+^$()|[\]\\]/g, "\\$&")
    // A `{path}` parameter may contain slashes.
    .replaceAll("{path}", ".+")
    .replaceAll(/\{[^}]+\}/g, "[^/]+");
  return new RegExp(`^${source}/?$`);
}

export function findOperation(method: string, path: string): FoundOperation | null {
  patterns ??= listPatterns();
  return patterns.find((one) => one.method === method && one.pattern.test(path)) ?? null;
}

/** Whether any method of this path is documented. */
export function isDocumentedPath(path: string): boolean {
  patterns ??= listPatterns();
  return patterns.some(({ pattern }) => pattern.test(path));
}

/** The media types of an operation's response with this status, and the location of their schemas; null: not documented. */
export function findResponse(
  { method, template, operation }: FoundOperation,
  status: number,
): { mediaTypes: string[]; pathTo(mediaType: string): string[]; pathToEvent: string[] | null } | null {
  const response = operation.responses[status];
  if (!response) return null;
  const shared = response.$ref?.split("/").at(-1);
  const content = shared === undefined ? response.content : openapi.get().components.responses[shared]?.content;
  const base =
    shared === undefined
      ? ["paths", template, method.toLowerCase(), "responses", String(status)]
      : ["components", "responses", shared];
  const stream = content?.["text/event-stream"] as object | undefined;
  return {
    mediaTypes: Object.keys(content ?? {}),
    pathTo: (type) => [...base, "content", type, "schema"],
    pathToEvent: stream && "x-event" in stream ? [...base, "content", "text/event-stream", "x-event"] : null,
  };
}

export const findFaultInBody = openapi.findFault;
