import { swagger } from "@elysiajs/swagger";
import { Elysia } from "elysia";
import type { JsonObject } from "../lib/json.ts";
import { answerHeaders, OpenAiErrorBody, ProblemDetails, problemStatuses, requestHeaders, tags } from "./openapi.ts";
import { describeOperation } from "./openapi-operation.ts";
import { Components } from "./openapi-schema.ts";
import type { Route } from "./route.ts";

const apiKeyDescription =
  "An API key. A service key acts for another user by the header `X-On-Behalf-Of: <user id>`; otherwise a key acts for its owner.";

const DESCRIPTION = `Parley is an AI chat backend in one executable: accounts, conversations, messages, models that answer, and a WebSocket
that keeps everybody up to date.

Errors are \`application/problem+json\` (RFC 9457); branch on \`code\`. Lists are pages: pass \`next_cursor\` on as \`cursor\`.
Every answer has an \`X-Request-Id\`. \`x-scope\` is what an API key needs for an operation: a scope, \`any\` key, or \`session\` where no
key will do. \`x-limit\` is the limit that it counts for.`;

/**
 * The OpenAPI 3.0.3 document of these routes. Of everything that differs between two installations, like the port, it says
 * nothing; schemas with a name are kept once, below `components`.
 */
export async function createOpenApiDocument(routes: readonly Route[], version: string): Promise<JsonObject> {
  const components = new Components();
  const shown = routes.filter(({ isHidden }) => !isHidden);
  const app = new Elysia();
  for (const route of shown)
    app.route(route.method, mapToTemplate(route.path), () => null, {
      detail: describeOperation(route, components) as never,
    });
  app.use(
    swagger({
      documentation: {
        info: { title: "Parley", version, description: DESCRIPTION, license: { name: "MIT" } },
        servers: [{ url: "/" }],
        tags: listTags(shown),
        components: createComponents(components) as never,
      },
    }),
  );
  const response = await app.handle(new Request("http://localhost/swagger/json"));
  return (await response.json()) as JsonObject;
}

/** The framework leaves out the rest of an address (`*`), so that it is shown as a part of it. */
const mapToTemplate = (path: string): string => path.replace(/\*$/, ":path");

function listTags(routes: readonly Route[]) {
  const used = new Set<string>(routes.map(({ tag }) => tag));
  return Object.entries(tags).flatMap(([name, description]) => (used.has(name) ? [{ name, description }] : []));
}

/** What operations refer to. @param components complete: every operation has been described. */
function createComponents(components: Components): object {
  const map = (schema: object) => components.map(JSON.parse(JSON.stringify(schema)), "out");
  const content = (type: string, schema: object) => ({ [type]: { schema: map(schema) } });
  const problems = Object.entries(problemStatuses).map(([status, description]) => {
    const headers = {
      "X-Request-Id": refToHeader("X-Request-Id"),
      ...(status === "401" && { "WWW-Authenticate": refToHeader("WWW-Authenticate") }),
      ...((status === "429" || status === "503") && { "Retry-After": refToHeader("Retry-After") }),
    };
    return [
      `Problem${status}`,
      { description, headers, content: content("application/problem+json", ProblemDetails) },
    ] as const;
  });
  const openAiError = {
    description: "An error in OpenAI's shape.",
    headers: { "X-Request-Id": refToHeader("X-Request-Id") },
    content: content("application/json", OpenAiErrorBody),
  };
  return {
    securitySchemes: {
      bearer: { type: "http", scheme: "bearer", description: "The access token of a session, or an API key." },
      apiKey: { type: "apiKey", in: "header", name: "X-API-Key", description: apiKeyDescription },
    },
    headers: answerHeaders,
    parameters: requestHeaders,
    responses: { ...Object.fromEntries(problems), OpenAiError: openAiError },
    schemas: components.list(),
  };
}

const refToHeader = (name: keyof typeof answerHeaders) => ({ $ref: `#/components/headers/${name}` });
