import fc from "fast-check";
import { TEST_PASSWORD, type TestClient } from "../support/client.ts";
import type { Operation } from "./catalogue.ts";
import { createSamples, type Hints } from "./samples.ts";
import { fillPath, type World } from "./world.ts";

/** Without a response after this time, the server hangs. */
const ANSWER_MS_MAX = 10_000;

export type Answer = { status: number; type: string; text: string; headers: Headers };

export type PlannedRequest = { method: string; path: string; json: unknown; isPrivate: boolean };

/** Fields that mean the same everywhere. */
export const plainHints: Hints = {
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

/** The offline model used here supports no formats. */
export const formatHints: Hints = { reply_format: fc.constant(null) };

/** Bodies whose fields must match each other. */
const wholeBodies: Record<string, (world: World) => object> = {
  createChatCompletion: ({ fields: { metadata } }) => ({
    model: "offline/documents",
    messages: [{ role: "user", content: "Hello." }],
    metadata,
  }),
  // By id; the other form is tested separately.
  addMember: ({ fields: { user_id } }) => ({ user_id }),
  // The email, which a key may not change, is tested separately.
  updateMe: () => ({ display_name: "Another name" }),
};

/** Required queries. */
const neededQueries: Record<string, string> = { createImport: "?source=chatgpt" };

/** A request that is valid except, perhaps, for its sender: it names existing data wherever something is named. */
export function planRequest(operation: Operation, world: World, more: Record<string, unknown> = {}): PlannedRequest {
  const { path: filled, isPrivate } = fillPath(operation.path, world.places);
  const path = filled + (neededQueries[operation.id] ?? "");
  const known = { ...world.fields, ...more };
  const hints = { ...plainHints, ...mapToHints(known), ...formatHints };
  let json: unknown;
  if (operation.body) {
    const whole = wholeBodies[operation.id];
    const sample = createSamples(operation.body, hints, true);
    json = whole ? whole(world) : fc.sample(sample, { numRuns: 1, seed: 42 })[0];
  }
  const namesField = Object.entries(world.fields).some(
    ([name, value]) => name !== "metadata" && holds(json, name, value),
  );
  const isWhole = operation.id in wholeBodies && holds(json, "metadata", world.fields.metadata);
  const asked = path.includes("?") ? path : `${path}${listRequired(operation, world)}`;
  return { method: operation.method, path: asked, json, isPrivate: isPrivate || namesField || isWhole };
}

/** The required query: a search looks for the word that only the world contains. */
function listRequired({ parameters }: Operation, { word }: World): string {
  const required = parameters.filter((parameter) => parameter.in === "query" && parameter.required);
  return required.length === 0
    ? ""
    : `?${new URLSearchParams(Object.fromEntries(required.map(({ name }) => [name, word])))}`;
}

const mapToHints = (values: Record<string, unknown>): Hints =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, fc.constant(value)]));

function holds(json: unknown, name: string, value: unknown): boolean {
  return typeof json === "object" && json !== null && (json as Record<string, unknown>)[name] === value;
}

/** Sends a request and reads its response; of an event stream, which may be endless, only the beginning. */
export async function send(
  parley: Pick<TestClient, "url">,
  { method, path, json }: Pick<PlannedRequest, "method" | "path" | "json">,
  token: string | null,
  more: Record<string, string> = {},
): Promise<Answer> {
  const headers = {
    ...(token !== null && { authorization: `Bearer ${token}` }),
    ...more,
    ...(json !== undefined && { "content-type": "application/json" }),
  };
  return sendRaw(`${parley.url}${path}`, {
    method,
    headers,
    ...(json !== undefined && { body: JSON.stringify(json) }),
  });
}

/** Like `send`, for what only `fetch` can send. @throws if there is no response in time. */
export async function sendRaw(url: string, init: RequestInit): Promise<Answer> {
  const response = await fetch(url, { ...init, redirect: "manual", signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  const type = response.headers.get("content-type")?.split(";", 1)[0] ?? "";
  const isStream = type === "text/event-stream";
  if (isStream) await response.body?.cancel();
  return { status: response.status, type, text: isStream ? "" : await response.text(), headers: response.headers };
}

/** What is wrong with the format of an error; null if nothing is. */
export function findFormFault(path: string, { status, type, text, headers }: Answer): string | null {
  // The runtime's own response to more than 16 KiB of path and headers, before our code runs.
  if (status === 431) return text === "" ? null : "431 with a text";
  if (!headers.has("x-request-id")) return "no X-Request-Id";
  if (status < 400) return null;
  if (path.startsWith("/v1/")) {
    const error = readObject(readObject(parse(text))?.error);
    return type === "application/json" && typeof error?.message === "string" && "code" in error
      ? null
      : "not OpenAI's error";
  }
  const problem = readObject(parse(text));
  const isProblem =
    type === "application/problem+json" &&
    problem?.status === status &&
    problem.type === `/problems/${problem.code}` &&
    problem.request_id === headers.get("x-request-id") &&
    problem.instance === `urn:request:${problem.request_id}` &&
    typeof problem.title === "string" &&
    typeof problem.detail === "string";
  return isProblem ? null : "no problem+json";
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const readObject = (value: unknown): Record<string, unknown> | null =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
