import { swagger } from "@elysiajs/swagger";
import { Elysia } from "elysia";
import type { JsonObject } from "../lib/json.ts";
import { OpenAiErrorBody, ProblemDetails, problemStatuses, requestHeaders, responseHeaders, tags } from "./openapi.ts";
import { describeOperation } from "./openapi-operation.ts";
import { Components } from "./openapi-schema.ts";
import type { Route } from "./route.ts";

const apiKeyDescription =
  "An API key, which acts for its owner. A service key acts for another user with the header `X-On-Behalf-Of: <user id>`.";

const DESCRIPTION = `Parley is an AI chat backend in one executable: accounts, conversations, messages, model replies, and a WebSocket
for live updates.

Errors are \`application/problem+json\` (RFC 9457); branch on \`code\`. Lists are paginated: pass \`next_cursor\` as \`cursor\`.
Every response has an \`X-Request-Id\`. \`x-scope\` is what an API key needs for an operation: a scope, \`any\` for any key, or \`session\`
if API keys can't call it. \`x-limit\` is the rate limit that the operation counts towards.`;

/**
 * Creates the OpenAPI 3.0.3 document of these routes. It doesn't depend on the installation. Named schemas are listed once,
 * below `components`.
 */
export async function createOpenApiDocument(routes: readonly Route[], version: string): Promise<JsonObject> {
  const components = new Components();
  const documentedRoutes = routes.filter(({ isHidden }) => !isHidden);
  const app = new Elysia();
  for (const route of documentedRoutes)
    app.route(route.method, mapToTemplate(route.path), () => null, {
      detail: describeOperation(route, components) as never,
    });
  app.use(
    swagger({
      documentation: {
        info: { title: "Parley", version, description: DESCRIPTION, license: { name: "MIT" } },
        servers: [{ url: "/" }],
        tags: listTags(documentedRoutes),
        components: createComponents(components) as never,
      },
    }),
  );
  const response = await app.handle(new Request("http://localhost/swagger/json"));
  return (await response.json()) as JsonObject;
}

/** Replaces a wildcard, which Elysia would omit, with a parameter. */
const mapToTemplate = (path: string): string => path.replace(/\*$/, ":path");

function listTags(routes: readonly Route[]) {
  const usedTags = new Set<string>(routes.map(({ tag }) => tag));
  return Object.entries(tags).flatMap(([name, description]) => (usedTags.has(name) ? [{ name, description }] : []));
}

/** Creates the components that operations refer to. All operations must already be described. */
function createComponents(components: Components): object {
  const mapSchema = (schema: object) => components.map(JSON.parse(JSON.stringify(schema)), "out");
  const createContent = (type: string, schema: object) => ({ [type]: { schema: mapSchema(schema) } });
  const problems = Object.entries(problemStatuses).map(([status, description]) => {
    const headers = {
      "X-Request-Id": refToHeader("X-Request-Id"),
      ...(status === "401" && { "WWW-Authenticate": refToHeader("WWW-Authenticate") }),
      ...((status === "429" || status === "503") && { "Retry-After": refToHeader("Retry-After") }),
    };
    return [
      `Problem${status}`,
      { description, headers, content: createContent("application/problem+json", ProblemDetails) },
    ] as const;
  });
  const openAiError = {
    description: "An error in OpenAI's format.",
    headers: { "X-Request-Id": refToHeader("X-Request-Id") },
    content: createContent("application/json", OpenAiErrorBody),
  };
  return {
    securitySchemes: {
      bearer: { type: "http", scheme: "bearer", description: "The access token of a session, or an API key." },
      apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: apiKeyDescription },
    },
    headers: responseHeaders,
    parameters: requestHeaders,
    responses: { ...Object.fromEntries(problems), OpenAiError: openAiError },
    schemas: components.list(),
  };
}

const refToHeader = (name: keyof typeof responseHeaders) => ({ $ref: `#/components/headers/${name}` });
