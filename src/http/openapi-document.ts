import { readIdempotencyMode } from "./idempotency-mode.ts";
import { isOpenAiPath } from "./openai-error.ts";
import {
  IDEMPOTENCY_FIELD,
  ProblemDetails,
  type ProblemStatus,
  problemStatuses,
  refToProblem,
  tags,
} from "./openapi.ts";
import { isObject, type JsonObject, mapSchemaToOpenApi } from "./openapi-schema.ts";
import type { DeclaredRoute } from "./route-index.ts";

const apiKeyDescription =
  "An API key. A service key acts for another user by the header `X-On-Behalf-Of: <user id>`; otherwise a key acts for its owner.";

const DESCRIPTION = `Parley is an AI chat backend in one executable: accounts, conversations, messages, models that answer, and a WebSocket
that keeps everybody up to date.

Errors are \`application/problem+json\` (RFC 9457); branch on \`code\`. Lists are pages: pass \`next_cursor\` on as \`cursor\`.
Every answer has an \`X-Request-Id\`. \`x-scope\` is what an API key needs for an operation: a scope, \`any\` key, or \`session\` where no
key will do.`;

/**
 * Turns what the framework collects of its routes into a valid OpenAPI 3.0.3 document: one dialect of schemas, JSON as the
 * only type of a body, the error answers that follow from an operation's inputs, and the wildcard routes it leaves out.
 */
export function finishDocument(
  collected: unknown,
  about: { version: string; serverUrl: string; routes: readonly DeclaredRoute[] },
): JsonObject {
  // A round trip drops what is no JSON: symbols of TypeBox, undefined values, functions.
  const { paths } = JSON.parse(JSON.stringify(collected)) as { paths: Record<string, Record<string, JsonObject>> };
  for (const { method, path, detail } of about.routes) {
    if (!path.endsWith("/*") || detail === undefined || "hide" in detail) continue;
    const template = path.replace(/\*$/, "{path}");
    const parameter = { in: "path", name: "path", required: true, schema: { type: "string" } };
    const operation = { ...JSON.parse(JSON.stringify(detail)), parameters: [parameter] };
    paths[template] = { ...paths[template], [method.toLowerCase()]: operation };
  }
  for (const [path, operations] of Object.entries(paths))
    paths[path] = Object.fromEntries(
      Object.entries(operations).map(([method, operation]) => {
        const finished = finishOperation(operation);
        const keyed = readIdempotencyMode({ method, path, detail: operation }) ? addIdempotencyKey(finished) : finished;
        return [method, isOpenAiPath(path) ? toOpenAiErrors(keyed) : keyed];
      }),
    );
  const used = new Set(
    Object.values(paths).flatMap((operations) => Object.values(operations).flatMap(({ tags }) => tags)),
  );
  return {
    openapi: "3.0.3",
    info: { title: "Parley", version: about.version, description: DESCRIPTION, license: { name: "MIT" } },
    servers: [{ url: about.serverUrl }],
    tags: Object.entries(tags).flatMap(([name, description]) => (used.has(name) ? [{ name, description }] : [])),
    paths: Object.fromEntries(Object.entries(paths).map(([path, operations]) => [trimPath(path), operations])),
    components: {
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer", description: "The access token of a session, or an API key." },
        apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: apiKeyDescription },
      },
      schemas: { Problem: mapSchemaToOpenApi(JSON.parse(JSON.stringify(ProblemDetails))) },
      parameters: { IdempotencyKey: idempotencyKey },
      responses: { ...createProblemResponses(), ...createOpenAiErrorResponses() },
    },
  };
}

const trimPath = (path: string) => (path.length > 1 ? path.replace(/\/$/, "") : path);

function finishOperation(operation: JsonObject): JsonObject {
  const { requestBody, responses, parameters, [IDEMPOTENCY_FIELD]: _, ...rest } = operation;
  const list = Array.isArray(parameters) ? parameters.filter(isObject) : [];
  const statuses = new Set<ProblemStatus>();
  if (requestBody) for (const status of [400, 413, 415, 422] as const) statuses.add(status);
  if (list.some((parameter) => parameter.in === "path")) statuses.add(404).add(422);
  if (list.some((parameter) => parameter.in === "query")) statuses.add(422);
  const errors = Object.fromEntries([...statuses].map((status) => [status, refToProblem(status)]));
  return {
    ...rest,
    ...(list.length > 0 && { parameters: list.map(finishParameter) }),
    ...(isObject(requestBody) && { requestBody: finishBody(requestBody) }),
    responses: Object.fromEntries(
      Object.entries({ ...errors, ...(isObject(responses) ? responses : {}) }).map(([status, response]) => [
        status,
        isObject(response) ? finishResponse(response) : response,
      ]),
    ),
  };
}

const idempotencyKey = {
  in: "header",
  name: "Idempotency-Key",
  required: false,
  description:
    "1 to 255 visible ASCII characters, in quotes or without. The same key with the same payload gets the same answer for " +
    "24 hours, with `Idempotent-Replayed: true`; another payload is 422, and a request that is still running 409.",
  schema: { type: "string" },
};

function addIdempotencyKey(operation: JsonObject): JsonObject {
  const parameters = Array.isArray(operation.parameters) ? operation.parameters : [];
  const responses = isObject(operation.responses) ? operation.responses : {};
  return {
    ...operation,
    parameters: [...parameters, { $ref: "#/components/parameters/IdempotencyKey" }],
    responses: { 409: refToProblem(409), 422: refToProblem(422), ...responses },
  };
}

/** Below `/v1` errors have OpenAI's shape, and what is not valid is 400. */
function toOpenAiErrors(operation: JsonObject): JsonObject {
  const responses = isObject(operation.responses) ? operation.responses : {};
  const named = Object.entries(responses)
    .filter(([status]) => status !== "422")
    .map(([status, response]) => [status, isObject(response) && "$ref" in response ? openAiErrorRef : response]);
  return { ...operation, responses: Object.fromEntries(named) };
}

const openAiErrorRef = { $ref: "#/components/responses/OpenAiError" };

function createOpenAiErrorResponses(): JsonObject {
  const text = { type: "string", nullable: true };
  const error = {
    type: "object",
    properties: { message: { type: "string" }, type: { type: "string" }, param: text, code: text },
    required: ["message", "type", "param", "code"],
  };
  const schema = { type: "object", properties: { error }, required: ["error"] };
  return { OpenAiError: { description: "An error in OpenAI's shape.", content: { "application/json": { schema } } } };
}

function finishParameter(parameter: JsonObject): JsonObject {
  const schema = mapSchemaToOpenApi(parameter.schema ?? {}) as JsonObject;
  const description = parameter.description ?? schema.description;
  const { examples: _, ...rest } = parameter;
  return { ...rest, ...(description !== undefined && { description }), schema };
}

function finishBody(body: JsonObject): JsonObject {
  const content = isObject(body.content) ? body.content : {};
  const json = isObject(content["application/json"]) ? content["application/json"] : {};
  return { ...body, content: { "application/json": { schema: mapSchemaToOpenApi(json.schema ?? {}) } } };
}

function finishResponse(response: JsonObject): JsonObject {
  if (!isObject(response.content)) return response;
  const content = Object.entries(response.content).map(([type, media]) => [
    type,
    isObject(media) ? { ...media, schema: mapSchemaToOpenApi(media.schema ?? {}) } : media,
  ]);
  return { ...response, content: Object.fromEntries(content) };
}

function createProblemResponses(): JsonObject {
  const content = { "application/problem+json": { schema: { $ref: "#/components/schemas/Problem" } } };
  return Object.fromEntries(
    Object.entries(problemStatuses).map(([status, description]) => [`Problem${status}`, { description, content }]),
  );
}
