import type { TSchema } from "@sinclair/typebox";
import type { JsonObject } from "../lib/json.ts";
import { modeOf } from "./idempotency.ts";
import { isOpenAiPath } from "./openai-error.ts";
import type { answerHeaders, ProblemStatus, requestHeaders } from "./openapi.ts";
import type { Components } from "./openapi-schema.ts";
import { isLimitedPath, limitOf } from "./rate-limit.ts";
import { type Route, statusOf } from "./route.ts";

const refTo = (kind: string, name: string) => ({ $ref: `#/components/${kind}/${name}` });

/** TypeBox schemas as plain JSON: without symbols and functions. */
const toJson = (schema: TSchema): JsonObject => JSON.parse(JSON.stringify(schema)) as JsonObject;

/** The OpenAPI operation of a route, derived entirely from its declaration. */
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
    ...(isLimitedPath(route.path) && { "x-limit": limitOf(route) }),
    ...(route.expensive && { "x-expensive": route.expensive }),
    ...(streams.length > 0 && { "x-streams": streams }),
    ...(parameters.length > 0 && { parameters }),
    ...(route.body && { requestBody: describeBody(route.body, components) }),
    ...(route.rawBody && { requestBody: describeRawBody(route.rawBody, components) }),
    responses: { ...describeAnswers(route, components), ...describeErrors(route), ...route.responses } as JsonObject,
  };
}

/** The kinds of streams that the route may keep open. Each ends when its caller loses access. */
function listStreams({ stream, expensive, streamsBody, waitsForModel }: Route): string[] {
  return [
    ...(stream ? ["events"] : []),
    ...(expensive === "download" ? ["download"] : []),
    ...(streamsBody ? ["upload"] : []),
    ...(waitsForModel ? ["answer"] : []),
  ];
}

function listParameters(route: Route, components: Components): JsonObject[] {
  const { scope, isTagged, takesIfMatch, stream, method } = route;
  const path = route.path.includes("*")
    ? [{ in: "path", name: "path", required: true, schema: { type: "string" } }]
    : describeProperties("path", route.params, components);
  const headers: (keyof typeof requestHeaders)[] = [
    ...(modeOf(route) ? (["IdempotencyKey"] as const) : []),
    ...(takesIfMatch ? (["IfMatch"] as const) : []),
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

function describeProperties(place: "path" | "query", schema: TSchema | undefined, components: Components) {
  if (!schema) return [];
  const { properties, required } = toJson(schema) as { properties: Record<string, JsonObject>; required?: string[] };
  return Object.entries(properties).map(([name, property]) => {
    const { description, ...rest } = components.map(property, "in") as JsonObject;
    const isRequired = place === "path" || (required?.includes(name) ?? false);
    return { in: place, name, required: isRequired, ...(description !== undefined && { description }), schema: rest };
  });
}

function describeBody(body: TSchema, components: Components): JsonObject {
  const schema = toJson(body);
  const isNullable = Array.isArray(schema.anyOf) && schema.anyOf.some((one) => (one as JsonObject).type === "null");
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
  const asForm = form && { "multipart/form-data": { schema: components.map(toJson(form), "in") } };
  return { required: true, content: { ...content, ...asForm } };
}

function describeAnswers(route: Route, components: Components): JsonObject {
  const { ok, stream, streamEvent, isTagged, summary } = route;
  const status = statusOf(route);
  const headers = describeHeaders(route);
  const events = {
    "text/event-stream": {
      schema: { type: "string", description: stream ?? "" },
      // OpenAPI 3.0 can't describe what a stream consists of.
      ...(streamEvent && { "x-event": components.map(toJson(streamEvent), "out") }),
    },
  };
  const good = {
    description: (ok?.description as string | undefined) ?? summary,
    headers,
    ...(ok && { content: describeContent(ok, route.mediaTypes ?? ["application/json"], components) }),
  };
  const streamed = { description: "The same, as server-sent events.", headers, content: events };
  return {
    ...(stream && status !== 200 && { 200: streamed }),
    [status]: stream && status === 200 ? { ...good, content: { ...good.content, ...events } } : good,
    ...(isTagged && {
      304: {
        description: "Not modified: the caller already has this state.",
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
  const { isTagged, takesIfMatch, ok } = route;
  const names: (keyof typeof answerHeaders)[] = [
    "X-Request-Id",
    ...(isLimitedPath(route.path) ? (["RateLimit-Policy", "RateLimit"] as const) : []),
    ...(isTagged || (takesIfMatch && ok) ? (["ETag"] as const) : []),
    ...(route.query?.properties?.cursor ? (["Link"] as const) : []),
    ...(modeOf(route) ? (["Idempotent-Replayed"] as const) : []),
    ...(route.answerHeaders ?? []),
  ];
  return Object.fromEntries(names.map((name) => [name, refTo("headers", name)]));
}

/** Every error refers to a shared response; below `/v1` it has OpenAI's shape, and validation errors are 400. */
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
    // 409: the first request with an identity provider's token creates the account, and its address may be taken.
    ...(route.public ? [] : ([401, 403, 409] as const)),
    ...(isLimitedPath(route.path) ? ([429] as const) : []),
    // A body is parsed even if none is declared.
    ...(route.method === "GET" ? [] : ([400, 413, 415] as const)),
    ...(route.body || route.rawBody ? ([422] as const) : []),
    // A cursor, or the id of the last event, may be invalid.
    ...(route.query?.properties?.cursor || (route.stream && route.method === "GET") ? ([400] as const) : []),
    ...(hasPathParameter ? ([404, 422] as const) : []),
    ...(route.query ? ([422] as const) : []),
    ...(modeOf(route) ? ([409, 422] as const) : []),
    ...(route.takesIfMatch ? ([412] as const) : []),
    ...(route.problems ?? []),
    500,
    503,
  ]);
}
