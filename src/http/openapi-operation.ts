import type { TSchema } from "@sinclair/typebox";
import type { JsonObject } from "../lib/json.ts";
import { getIdempotencyMode } from "./idempotency.ts";
import { isOpenAiPath } from "./openai-error.ts";
import type { ProblemStatus, requestHeaders, responseHeaders } from "./openapi.ts";
import type { Components } from "./openapi-schema.ts";
import { getLimitClass, isLimitedPath } from "./rate-limit.ts";
import { getSuccessStatus, type Route } from "./route.ts";

const refTo = (kind: string, name: string) => ({ $ref: `#/components/${kind}/${name}` });

/** Converts a TypeBox schema to plain JSON, without symbols and functions. */
const toJson = (schema: TSchema): JsonObject => JSON.parse(JSON.stringify(schema)) as JsonObject;

/** Returns a route's OpenAPI operation, which is derived entirely from its declaration. */
export function describeOperation(route: Route, components: Components): JsonObject {
  const { operationId, summary, description, tag, scope } = route;
  const parameters = listParameters(route, components);
  const streams = listStreams(route);
  return {
    operationId,
    summary,
    ...(description && { description }),
    tags: [tag],
    security: route.public ? [] : scope === "session" ? [{ bearer: [] }] : [{ bearer: [] }, { apiKey: [] }],
    ...(scope && { "x-scope": scope }),
    ...(isLimitedPath(route.path) && { "x-limit": getLimitClass(route) }),
    ...(route.expensive && { "x-expensive": route.expensive }),
    ...(streams.length > 0 && { "x-streams": streams }),
    ...(parameters.length > 0 && { parameters }),
    ...(route.body && { requestBody: describeBody(route.body, components) }),
    ...(route.rawBody && { requestBody: describeRawBody(route.rawBody, components) }),
    responses: { ...describeResponses(route, components), ...describeErrors(route), ...route.responses } as JsonObject,
  };
}

/** Returns the kinds of streams that the route may keep open. They are closed if the caller loses access. */
function listStreams({ stream, expensive, streamsBody, waitsForModel }: Route): string[] {
  return [
    ...(stream ? ["events"] : []),
    ...(expensive === "download" ? ["download"] : []),
    ...(streamsBody ? ["upload"] : []),
    ...(waitsForModel ? ["answer"] : []),
  ];
}

function listParameters(route: Route, components: Components): JsonObject[] {
  const { scope, isTagged, supportsIfMatch, stream, method } = route;
  const path = route.path.includes("*")
    ? [{ in: "path", name: "path", required: true, schema: { type: "string" } }]
    : describeProperties("path", route.params, components);
  const headers: (keyof typeof requestHeaders)[] = [
    ...(getIdempotencyMode(route) ? (["IdempotencyKey"] as const) : []),
    ...(supportsIfMatch ? (["IfMatch"] as const) : []),
    ...(isTagged ? (["IfNoneMatch"] as const) : []),
    ...(stream && method === "GET" ? (["LastEventId"] as const) : []),
    ...(scope && scope !== "session" ? (["OnBehalfOf"] as const) : []),
  ];
  return [
    ...path,
    ...describeProperties("query", route.query, components),
    ...headers.map((name) => refTo("parameters", name)),
  ];
}

function describeProperties(location: "path" | "query", schema: TSchema | undefined, components: Components) {
  if (!schema) return [];
  const { properties, required } = toJson(schema) as { properties: Record<string, JsonObject>; required?: string[] };
  return Object.entries(properties).map(([name, property]) => {
    const { description, ...propertySchema } = components.map(property, "in") as JsonObject;
    const isRequired = location === "path" || (required?.includes(name) ?? false);
    return {
      in: location,
      name,
      required: isRequired,
      ...(description !== undefined && { description }),
      schema: propertySchema,
    };
  });
}

function describeBody(body: TSchema, components: Components): JsonObject {
  const schema = toJson(body);
  const isNullable =
    Array.isArray(schema.anyOf) && schema.anyOf.some((branch) => (branch as JsonObject).type === "null");
  return {
    required: !isNullable,
    content: { "application/json": { schema: components.map(schema, "in") } },
  };
}

function describeRawBody(
  { schema, mediaTypes, form }: NonNullable<Route["rawBody"]>,
  components: Components,
): JsonObject {
  const content = describeContent(schema, mediaTypes, components, "in");
  const formContent = form && { "multipart/form-data": { schema: components.map(toJson(form), "in") } };
  return { required: true, content: { ...content, ...formContent } };
}

function describeResponses(route: Route, components: Components): JsonObject {
  const { ok, stream, streamEvent, isTagged, summary } = route;
  const status = getSuccessStatus(route);
  const headers = describeHeaders(route);
  const events = {
    "text/event-stream": {
      schema: { type: "string", description: stream ?? "" },
      // OpenAPI 3.0 can't describe the events of a stream.
      ...(streamEvent && { "x-event": components.map(toJson(streamEvent), "out") }),
    },
  };
  const success = {
    description: (ok?.description as string | undefined) ?? summary,
    headers,
    ...(ok && { content: describeContent(ok, route.mediaTypes ?? ["application/json"], components) }),
  };
  const streamed = { description: "The same data as server-sent events.", headers, content: events };
  return {
    ...(stream && status !== 200 && { 200: streamed }),
    [status]: stream && status === 200 ? { ...success, content: { ...success.content, ...events } } : success,
    ...(isTagged && {
      304: {
        description: "Not modified: the client already has this version.",
        headers: { ETag: refTo("headers", "ETag") },
      },
    }),
  };
}

function describeContent(
  ok: TSchema,
  mediaTypes: readonly string[],
  components: Components,
  direction: "in" | "out" = "out",
): JsonObject {
  const json = components.map(toJson(ok), direction);
  const hasJson = mediaTypes.includes("application/json");
  return Object.fromEntries(
    mediaTypes.map((type) => [type, { schema: type === "application/json" || !hasJson ? json : { type: "string" } }]),
  );
}

function describeHeaders(route: Route): JsonObject {
  const { isTagged, supportsIfMatch, ok } = route;
  const names: (keyof typeof responseHeaders)[] = [
    "X-Request-Id",
    ...(isLimitedPath(route.path) ? (["RateLimit-Policy", "RateLimit"] as const) : []),
    ...(isTagged || (supportsIfMatch && ok) ? (["ETag"] as const) : []),
    ...(route.query?.properties?.cursor ? (["Link"] as const) : []),
    ...(getIdempotencyMode(route) ? (["Idempotent-Replayed"] as const) : []),
    ...(route.responseHeaders ?? []),
  ];
  return Object.fromEntries(names.map((name) => [name, refTo("headers", name)]));
}

/** Describes errors with references to shared responses. Under `/v1`, there are no 422 responses. */
function describeErrors(route: Route): JsonObject {
  const isOpenAi = isOpenAiPath(route.path);
  const statuses = [...listErrorStatuses(route)].sort((a, b) => a - b);
  return Object.fromEntries(
    statuses
      .filter((status) => !(isOpenAi && status === 422))
      .map((status) => [status, refTo("responses", isOpenAi ? "OpenAiError" : `Problem${status}`)]),
  );
}

function listErrorStatuses(route: Route): Set<ProblemStatus> {
  const hasPathParameter = route.params !== undefined || route.path.includes("*");
  return new Set<ProblemStatus>([
    // 409: the first request with an identity provider's token creates an account, whose email address may be in use.
    ...(route.public ? [] : ([401, 403, 409] as const)),
    ...(isLimitedPath(route.path) ? ([429] as const) : []),
    // A body is parsed even if the route doesn't declare one.
    ...(route.method === "GET" ? [] : ([400, 413, 415] as const)),
    ...(route.body || route.rawBody ? ([422] as const) : []),
    // A cursor or `Last-Event-ID` may be invalid.
    ...(route.query?.properties?.cursor || (route.stream && route.method === "GET") ? ([400] as const) : []),
    ...(hasPathParameter ? ([404, 422] as const) : []),
    ...(route.query ? ([422] as const) : []),
    ...(getIdempotencyMode(route) ? ([409, 422] as const) : []),
    ...(route.supportsIfMatch ? ([412] as const) : []),
    ...(route.problems ?? []),
    500,
    503,
  ]);
}
