import fc from "fast-check";
import { TEST_PASSWORD, type TestClient } from "../support/client.ts";
import type { Operation } from "./catalog.ts";
import { createSamples, type FieldArbitraries } from "./samples.ts";
import { fillPath, type UserData } from "./user-data.ts";

const RESPONSE_TIMEOUT_MS = 10_000;

export type ReceivedResponse = { status: number; type: string; text: string; headers: Headers };

export type PlannedRequest = {
  method: string;
  path: string;
  json: unknown;
  /** Whether the path or body refers to a resource of the user. */
  refersToUser: boolean;
};

/** Values for fields that have the same meaning in all operations. */
export const commonFieldArbitraries: FieldArbitraries = {
  password: fc.constant(TEST_PASSWORD),
  current_password: fc.constant(TEST_PASSWORD),
  new_password: fc.constant(TEST_PASSWORD),
  email: fc.uuid().map((id) => `${id}@example.com`),
  model: fc.constant("offline/documents"),
  template: fc.constant("Hello, {{user.display_name}}."),
  scopes: fc.constant(["messages:read"]),
  url: fc.constant("https://receiver.invalid/"),
  events: fc.constant(["message.created"]),
};

/** The offline model supports no reply formats. */
export const replyFormatArbitrary: FieldArbitraries = { reply_format: fc.constant(null) };

/** Complete bodies for operations whose fields depend on each other. */
const fixedBodies: Record<string, (userData: UserData) => object> = {
  createChatCompletion: ({ fields: { metadata } }) => ({
    model: "offline/documents",
    messages: [{ role: "user", content: "Hello." }],
    metadata,
  }),
  // Adds the member by id. Adding a member by email is tested separately.
  addMember: ({ fields: { user_id } }) => ({ user_id }),
  // The email, which an API key can't change, is tested separately.
  updateMe: () => ({ display_name: "Another name" }),
};

/** Query strings of operations whose parameters only accept certain values. */
const fixedQueries: Record<string, string> = { createImport: "?source=chatgpt" };

/** Creates a request that refers to existing data, and is valid if its sender has access to that data. */
export function planRequest(
  operation: Operation,
  userData: UserData,
  overrides: Record<string, unknown> = {},
): PlannedRequest {
  const { path: filledPath, refersToUser } = fillPath(operation.path, userData.pathValues);
  const path = filledPath + (fixedQueries[operation.id] ?? "");
  const fields = { ...userData.fields, ...overrides };
  const arbitraries = { ...commonFieldArbitraries, ...createConstants(fields), ...replyFormatArbitrary };
  let json: unknown;
  if (operation.body) {
    const createBody = fixedBodies[operation.id];
    const sample = createSamples(operation.body, arbitraries, true);
    json = createBody ? createBody(userData) : fc.sample(sample, { numRuns: 1, seed: 42 })[0];
  }
  const refersToFields = Object.entries(userData.fields).some(
    ([name, value]) => name !== "metadata" && hasField(json, name, value),
  );
  const refersToMetadata = operation.id in fixedBodies && hasField(json, "metadata", userData.fields.metadata);
  const pathWithQuery = path.includes("?") ? path : `${path}${createWordQuery(operation, userData)}`;
  return {
    method: operation.method,
    path: pathWithQuery,
    json,
    refersToUser: refersToUser || refersToFields || refersToMetadata,
  };
}

/** Creates a query string that sets each required parameter to the unique word in the user's data, so that searches find the data. */
function createWordQuery({ parameters }: Operation, { word }: UserData): string {
  const requiredParameters = parameters.filter((parameter) => parameter.in === "query" && parameter.required);
  return requiredParameters.length === 0
    ? ""
    : `?${new URLSearchParams(Object.fromEntries(requiredParameters.map(({ name }) => [name, word])))}`;
}

const createConstants = (values: Record<string, unknown>): FieldArbitraries =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, fc.constant(value)]));

function hasField(json: unknown, name: string, value: unknown): boolean {
  return typeof json === "object" && json !== null && (json as Record<string, unknown>)[name] === value;
}

/** Sends a request, and reads its response. The body of an event stream isn't read, because it may be endless. */
export async function sendRequest(
  parley: Pick<TestClient, "url">,
  { method, path, json }: Pick<PlannedRequest, "method" | "path" | "json">,
  token: string | null,
  extraHeaders: Record<string, string> = {},
): Promise<ReceivedResponse> {
  const headers = {
    ...(token !== null && { authorization: `Bearer ${token}` }),
    ...extraHeaders,
    ...(json !== undefined && { "content-type": "application/json" }),
  };
  return sendFetch(`${parley.url}${path}`, {
    method,
    headers,
    ...(json !== undefined && { body: JSON.stringify(json) }),
  });
}

/** Works like `sendRequest`, but accepts any `fetch` options. */
export async function sendFetch(url: string, init: RequestInit): Promise<ReceivedResponse> {
  const response = await fetch(url, { ...init, redirect: "manual", signal: AbortSignal.timeout(RESPONSE_TIMEOUT_MS) });
  const type = response.headers.get("content-type")?.split(";", 1)[0] ?? "";
  const isStream = type === "text/event-stream";
  if (isStream) await response.body?.cancel();
  return { status: response.status, type, text: isStream ? "" : await response.text(), headers: response.headers };
}

/** Checks the format of an error response. Returns a description of the first problem, or null. */
export function findFormatError(path: string, { status, type, text, headers }: ReceivedResponse): string | null {
  // The runtime itself responds with this status if the path and headers exceed 16 KiB.
  if (status === 431) return text === "" ? null : "431 with a body";
  if (!headers.has("x-request-id")) return "no X-Request-Id";
  if (status < 400) return null;
  if (path.startsWith("/v1/")) {
    const error = asObject(asObject(parseJson(text))?.error);
    return type === "application/json" && typeof error?.message === "string" && "code" in error
      ? null
      : "not in OpenAI's error format";
  }
  const problem = asObject(parseJson(text));
  const isProblem =
    type === "application/problem+json" &&
    problem?.status === status &&
    problem.type === `/problems/${problem.code}` &&
    problem.request_id === headers.get("x-request-id") &&
    problem.instance === `urn:request:${problem.request_id}` &&
    typeof problem.title === "string" &&
    typeof problem.detail === "string";
  return isProblem ? null : "not a valid problem document";
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const asObject = (value: unknown): Record<string, unknown> | null =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
