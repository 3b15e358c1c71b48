import { isLeftOut } from "./left-out.ts";
import { findFaultInBody, findOperation, findResponse, isDocumentedPath } from "./operations.ts";
import { noteSeen } from "./seen.ts";
import { findBlockCheck } from "./tap-events.ts";
import { addViolation } from "./violations.ts";

export type SeenResponse = { method: string; path: string; status: number; contentType: string | null };

/** How to check the body; null: it is not documented. */
export type BodyCheck =
  | { kind: "json"; check(text: string): void }
  | { kind: "stream"; check(block: string): void }
  | null;

const isJsonType = (type: string) => type === "application/json" || type.endsWith("+json");

/** Checks the status and content type of a response against the OpenAPI document. @returns the check of its body. */
export function checkResponse({ method, path, status, contentType }: SeenResponse): BodyCheck {
  const type = contentType?.split(";")[0]?.trim().toLowerCase() ?? null;
  const title = `${method} ${path} was answered ${status}${type === null ? "" : ` (${type})`}`;
  // Preflights and other CORS responses are not operations.
  if (method === "OPTIONS") return null;
  const found = findOperation(method === "HEAD" ? "GET" : method, path);
  if (!found) {
    if (status < 400 && !isLeftOut(path)) addViolation(`${title}: the operation is not in contract/openapi.json.`);
    if (status < 400) return null;
    const body = checkRefusal(title, path, status, type);
    return method === "HEAD" ? null : body;
  }
  const { template, operation } = found;
  const response = findResponse(found, status);
  const name = `${title}, operation ${operation.operationId} (${template})`;
  if (!response) {
    addViolation(`${name}: the status is not documented.`);
    return null;
  }
  noteSeen(`${found.method} ${template} ${status}`);
  if (method === "HEAD" || (type === null && response.mediaTypes.length === 0)) return null;
  if (type === null || !response.mediaTypes.includes(type)) {
    addViolation(`${name}: documented content types are ${response.mediaTypes.join(", ") || "none"}.`);
    return null;
  }
  noteSeen(`${found.method} ${template} ${status} ${type}`);
  if (type !== "text/event-stream") return createCheck(name, type, response.pathTo(type));
  const checkBlock = findBlockCheck(path, response.pathToEvent);
  return checkBlock && { kind: "stream", check: checkBlock };
}

/** The response to an undocumented request: an error in the format of that API. */
function checkRefusal(title: string, path: string, status: number, type: string | null): BodyCheck {
  if (!isLeftOut(path) && isDocumentedPath(path) && ![405, 429, 503].includes(status))
    addViolation(`${title}: the path is documented with other methods, so it should be 405.`);
  const [expected, schema] = path.startsWith("/v1/")
    ? ["application/json", "OpenAiError"]
    : ["application/problem+json", "Problem"];
  if (type !== null && type !== expected) addViolation(`${title}: errors are ${expected}.`);
  return type === null ? null : createCheck(title, type, ["components", "schemas", schema]);
}

/** For other media types, only the name is documented. */
function createCheck(title: string, type: string, path: string[]): BodyCheck {
  if (!isJsonType(type)) return null;
  const check = (text: string) => {
    const fault = findFault(path, text);
    if (fault !== null) addViolation(`${title}: ${fault}`, text);
  };
  return { kind: "json", check };
}

function findFault(path: string[], text: string): string | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return "the body is not JSON";
  }
  return findFaultInBody(path, value);
}
