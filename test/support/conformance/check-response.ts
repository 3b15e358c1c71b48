import { findBlockCheck } from "./check-events.ts";
import { recordCoverage } from "./coverage.ts";
import { findBodyError, findOperation, findResponse, isDocumentedPath } from "./operations.ts";
import { isUndocumentedPath } from "./undocumented-paths.ts";
import { addViolation } from "./violations.ts";

export type ReceivedResponse = { method: string; path: string; status: number; contentType: string | null };

/** The check for a body, or null if the body isn't documented. */
export type BodyCheck =
  | { kind: "json"; check(text: string): void }
  | { kind: "stream"; check(block: string): void }
  | null;

const isJsonType = (type: string) => type === "application/json" || type.endsWith("+json");

/** Checks a response's status and content type against the OpenAPI document. Returns the check for its body. */
export function checkResponse({ method, path, status, contentType }: ReceivedResponse): BodyCheck {
  const type = contentType?.split(";")[0]?.trim().toLowerCase() ?? null;
  const title = `${method} ${path} returned ${status}${type === null ? "" : ` (${type})`}`;
  // CORS preflights are not operations.
  if (method === "OPTIONS") return null;
  const foundOperation = findOperation(method === "HEAD" ? "GET" : method, path);
  if (!foundOperation) {
    if (status < 400 && !isUndocumentedPath(path))
      addViolation(`${title}: the operation is not in contract/openapi.json.`);
    if (status < 400) return null;
    const body = checkUndocumentedResponse(title, path, status, type);
    return method === "HEAD" ? null : body;
  }
  const { template, operation } = foundOperation;
  const response = findResponse(foundOperation, status);
  const name = `${title}, operation ${operation.operationId} (${template})`;
  if (!response) {
    addViolation(`${name}: the status is not documented.`);
    return null;
  }
  recordCoverage(`${foundOperation.method} ${template} ${status}`);
  if (method === "HEAD" || (type === null && response.mediaTypes.length === 0)) return null;
  if (type === null || !response.mediaTypes.includes(type)) {
    addViolation(`${name}: documented content types are ${response.mediaTypes.join(", ") || "none"}.`);
    return null;
  }
  recordCoverage(`${foundOperation.method} ${template} ${status} ${type}`);
  if (type !== "text/event-stream") return createJsonCheck(name, type, response.getSchemaPath(type));
  const checkBlock = findBlockCheck(path, response.eventSchemaPath);
  return checkBlock && { kind: "stream", check: checkBlock };
}

/** Checks the error response to an undocumented operation. It must have the error format of the path's API. */
function checkUndocumentedResponse(title: string, path: string, status: number, type: string | null): BodyCheck {
  if (!isUndocumentedPath(path) && isDocumentedPath(path) && ![405, 429, 503].includes(status))
    addViolation(`${title}: the path is documented for other methods, so the status should be 405.`);
  const [expected, schema] = path.startsWith("/v1/")
    ? ["application/json", "OpenAiError"]
    : ["application/problem+json", "Problem"];
  if (type !== null && type !== expected) addViolation(`${title}: errors must be ${expected}.`);
  return type === null ? null : createJsonCheck(title, type, ["components", "schemas", schema]);
}

/** Creates the check for a JSON body. Returns null for other media types, because their bodies have no schema. */
function createJsonCheck(title: string, type: string, path: string[]): BodyCheck {
  if (!isJsonType(type)) return null;
  const check = (text: string) => {
    const error = findJsonError(path, text);
    if (error !== null) addViolation(`${title}: ${error}`, text);
  };
  return { kind: "json", check };
}

function findJsonError(path: string[], text: string): string | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "the body is not JSON";
  }
  return findBodyError(path, value);
}
