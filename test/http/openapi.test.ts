import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { startApp, type TestApp } from "../support/app.ts";

type Operation = {
  operationId?: string;
  summary?: string;
  tags?: string[];
  security?: unknown[];
  requestBody?: { content: Record<string, unknown> };
  parameters?: { in?: string; name?: string; $ref?: string; schema?: object }[];
  responses: Record<string, ResponseObject>;
};
type ResponseObject = {
  description?: string;
  $ref?: string;
  headers?: object;
  content?: Record<string, { schema: { $ref?: string } }>;
};
type Document = {
  openapi: string;
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: {
    responses: Record<string, { content: Record<string, { schema: { $ref?: string } }> }>;
    schemas: Record<string, { properties?: Record<string, unknown> }>;
  };
};

let parley: TestApp;
let document: Document;
let operations: { name: string; path: string; operation: Operation }[];

beforeAll(async () => {
  parley = await startApp();
  document = (await (await parley.fetch("/swagger/json")).json()) as Document;
  operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method} ${path}`, path, operation })),
  );
});
afterAll(() => parley.stop());

test("the document is valid OpenAPI 3.0.3", async () => {
  const { valid, errors } = await new Validator().validate(structuredClone(document));
  expect(errors ?? []).toEqual([]);
  expect(valid).toBe(true);
  expect(document.openapi).toBe("3.0.3");
});

test("every operation has a unique ID, a summary and a known tag", () => {
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(operations.length);
  const tagNames = new Set(document.tags.map(({ name }) => name));
  for (const { name, operation } of operations) {
    expect({ name, id: operation.operationId }).toEqual({ name, id: expect.stringMatching(/^[a-z][A-Za-z]+$/) });
    expect({ name, summary: operation.summary }).toEqual({ name, summary: expect.stringMatching(/\w/) });
    expect({ name, tags: operation.tags?.filter((tag) => tagNames.has(tag)).length }).toEqual({ name, tags: 1 });
  }
});

test("the API's routes and the public routes outside it are documented", () => {
  const expected = [
    "post /api/v1/auth/register",
    "post /api/v1/auth/refresh",
    "patch /api/v1/conversations/{id}",
    "delete /api/v1/conversations/{id}/members/{user_id}",
    "put /api/v1/conversations/{id}/messages/{message_id}/feedback",
    "get /api/v1/conversations/{id}/events",
    "get /api/v1/documents/{path}",
    "get /api/v1/models",
    "post /v1/chat/completions",
    "get /v1/models",
    "get /v1/models/{path}",
    "get /readyz",
    "get /metrics",
    "get /problems/{code}",
  ];
  expect(operations.map(({ name }) => name)).toEqual(expect.arrayContaining(expected));
  expect(operations.map(({ path }) => path).filter((path) => path.includes("*") || path.includes(":"))).toEqual([]);
});

test("the operation for chat completions documents model failures", () => {
  const completionEntry = operations.find(({ name }) => name === "post /v1/chat/completions");
  expect(Object.keys(completionEntry?.operation.responses ?? {})).toEqual(
    expect.arrayContaining(["422", "502", "504"]),
  );
});

test("every operation documents its success and error responses", () => {
  for (const { name, path, operation } of operations) {
    const statuses = Object.keys(operation.responses);
    expect({ name, ok: statuses.some((status) => /^[12]/.test(status)) }).toEqual({ name, ok: true });
    expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["500", "503"]) });
    if (operation.security?.length)
      expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["401"]) });
    if (path.includes("{")) expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["404"]) });
    if (operation.requestBody)
      expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["400", "413", "415"]) });
    // Under /v1, invalid input returns 400, and 422 is a provider's response.
    if (operation.requestBody && !path.startsWith("/v1/"))
      expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["422"]) });
    for (const response of Object.values(operation.responses)) {
      const sharedName = response.$ref?.replace("#/components/responses/", "");
      expect({
        name,
        isDocumented:
          sharedName === undefined ? Boolean(response.description) : sharedName in document.components.responses,
      }).toEqual({ name, isDocumented: true });
    }
  }
});

/** The content types that an operation accepts besides JSON. */
const otherContentTypes: Record<string, string[]> = {
  "post /api/v1/hooks/{token}": ["application/x-www-form-urlencoded", "text/plain"],
  "post /api/v1/imports": ["application/zip", "multipart/form-data"],
};

test("bodies are JSON, and everything under /api/v1 except login routes and hooks requires authentication", () => {
  for (const { name, operation } of operations)
    if (operation.requestBody)
      expect({ name, types: Object.keys(operation.requestBody.content) }).toEqual({
        name,
        types: ["application/json", ...(otherContentTypes[name] ?? [])],
      });
  const publicOperations = operations.filter(
    ({ path, operation }) => path.startsWith("/api/v1/") && !operation.security?.length,
  );
  expect(publicOperations.map(({ path }) => path).sort()).toEqual(
    // A hook's URL contains its secret.
    [
      ...["login", "logout", "oidc", "refresh", "register"].map((name) => `/api/v1/auth/${name}`),
      "/api/v1/hooks/{token}",
    ],
  );
});

test("every error is a Problem, except that errors under /v1 have OpenAI's format", () => {
  for (const { name, path, operation } of operations)
    for (const [status, { $ref, content }] of Object.entries(operation.responses).filter(
      ([status]) => status >= "400",
    )) {
      // Probes return a line of text if the instance isn't ready.
      if (content?.["text/plain"] && /readyz|healthz/.test(path)) continue;
      const sharedResponse = document.components.responses[$ref?.split("/").at(-1) ?? ""];
      const [media] = Object.values(sharedResponse?.content ?? {});
      const schemaName = path.startsWith("/v1/") ? "OpenAiError" : "Problem";
      expect({ name, status, schema: media?.schema.$ref }).toEqual({
        name,
        status,
        schema: `#/components/schemas/${schemaName}`,
      });
    }
});

test("request and response schemas have names", () => {
  const { schemas } = document.components;
  expect(Object.keys(schemas)).toEqual(
    expect.arrayContaining([
      ...["ApiKey", "Conversation", "Document", "Member", "Message", "MessageUsage", "Model", "Problem", "Prompt"],
      ...["PromptVersion", "SendMessage", "SentMessage", "Session", "Tokens", "User", "MessagePage", "EventPage"],
    ]),
  );
  const getRef = (path: string, method: string, status: string) =>
    document.paths[path]?.[method]?.responses[status]?.content?.["application/json"]?.schema.$ref;
  const messagePath = "/api/v1/conversations/{id}/messages/{message_id}";
  expect(getRef(messagePath, "get", "200")).toBe("#/components/schemas/Message");
  expect(getRef("/api/v1/conversations", "get", "200")).toBe("#/components/schemas/ConversationPage");
  expect(schemas.SentMessage?.properties?.message).toEqual({ $ref: "#/components/schemas/Message" });
  expect(schemas.SentMessage?.properties?.reply).toEqual({
    type: "object",
    allOf: [{ $ref: "#/components/schemas/Message" }],
    nullable: true,
  });
  for (const { name, operation } of operations)
    for (const { content } of Object.values(operation.responses))
      for (const [type, { schema }] of Object.entries(content ?? {}))
        if (type === "application/json" && !name.endsWith("/export"))
          expect({ name, ref: schema.$ref }).toEqual({ name, ref: expect.stringMatching(/^#\/components\/schemas\//) });
});

test("event streams, 304 responses, headers and limits are documented", () => {
  const findOperation = (path: string, method: string) => document.paths[path]?.[method];
  const sendOperation = findOperation("/api/v1/conversations/{id}/messages", "post");
  expect(Object.keys(sendOperation?.responses["200"]?.content ?? {})).toEqual(["text/event-stream"]);
  expect(sendOperation?.responses["201"]?.headers).toHaveProperty("Location");
  const eventsOperation = findOperation("/api/v1/conversations/{id}/events", "get");
  expect(Object.keys(eventsOperation?.responses["200"]?.content ?? {})).toEqual([
    "application/json",
    "text/event-stream",
  ]);
  expect(eventsOperation?.parameters).toContainEqual({ $ref: "#/components/parameters/LastEventId" });
  expect(Object.keys(findOperation("/v1/chat/completions", "post")?.responses["200"]?.content ?? {})).toContain(
    "text/event-stream",
  );
  for (const path of ["/api/v1/conversations/{id}", "/api/v1/prompts/{id}", "/api/v1/documents/{path}"]) {
    expect(findOperation(path, "get")?.responses).toHaveProperty("304");
    expect(findOperation(path, "get")?.responses["200"]?.headers).toHaveProperty("ETag");
  }
  for (const { name, operation } of operations) {
    const limit = operation.parameters?.find((parameter) => parameter.name === "limit");
    if (!limit) continue;
    expect({ name, schema: limit.schema }).toEqual({
      name,
      schema: { type: "integer", minimum: 1, maximum: 200, default: 50 } as object,
    });
    expect(operation.responses["200"]?.headers).toHaveProperty("Link");
  }
});

test("the document is the same for every PUBLIC_URL", async () => {
  const otherApp = await startApp({ config: { PUBLIC_URL: "https://chat.example.com", METRICS_TOKEN: "a-token" } });
  try {
    expect(await (await otherApp.fetch("/swagger/json")).json()).toEqual(document);
  } finally {
    await otherApp.stop();
  }
});

test("the document contains no TypeBox keywords that OpenAPI 3.0 doesn't support", () => {
  const text = JSON.stringify(document);
  for (const keyword of ['"const":', '"patternProperties":', '"type":"null"', '"format":"text"', '"anyOf":[]'])
    expect(text).not.toContain(keyword);
});

describe("the server", () => {
  test("sends the OpenAPI document with an ETag, and returns 304 if the client has the current version", async () => {
    const firstResponse = await parley.fetch("/swagger/json");
    const etag = firstResponse.headers.get("etag") ?? "";
    expect(etag).toMatch(/^".+"$/);
    const cachedResponse = await parley.fetch("/swagger/json", { headers: { "if-none-match": etag } });
    expect(cachedResponse.status).toBe(304);
    expect(await cachedResponse.text()).toBe("");
  });

  test("compresses the OpenAPI document for clients that accept gzip, and gives it a separate ETag", async () => {
    const fetchDocument = (headers: Record<string, string>) =>
      fetch(`${parley.url}/swagger/json`, { headers, decompress: false });
    const uncompressedResponse = await fetchDocument({ "accept-encoding": "identity" });
    for (const acceptEncoding of ["gzip", "br, GZIP;q=0.5", "*"]) {
      const compressedResponse = await fetchDocument({ "accept-encoding": acceptEncoding });
      expect(compressedResponse.headers.get("content-encoding")).toBe("gzip");
      expect(compressedResponse.headers.get("vary")).toContain("Accept-Encoding");
      expect(compressedResponse.headers.get("etag")).not.toBe(uncompressedResponse.headers.get("etag"));
      const bytes = Bun.gunzipSync(await compressedResponse.arrayBuffer());
      expect(JSON.parse(new TextDecoder().decode(bytes))).toEqual(document);
      const cachedResponse = await fetchDocument({
        "accept-encoding": acceptEncoding,
        "if-none-match": String(compressedResponse.headers.get("etag")),
      });
      expect(cachedResponse.status).toBe(304);
    }
    for (const acceptEncoding of ["identity", "br", "gzip;q=0", "*;q=0.0"])
      expect((await fetchDocument({ "accept-encoding": acceptEncoding })).headers.get("content-encoding")).toBeNull();
  });

  test("has an API docs page that loads its script from this server, and nothing from other servers", async () => {
    const page = await (await parley.fetch("/swagger")).text();
    expect(page).not.toMatch(/https?:\/\//);
    const script = /<script src="([^"]+)"/.exec(page)?.[1] ?? "";
    const response = await parley.fetch(script);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toStartWith("text/javascript");
    expect(response.headers.get("cache-control")).toContain("immutable");
    expect(response.headers.get("content-encoding")).toBe("gzip");
    expect((await response.text()).length).toBeGreaterThan(1_000_000);
    const uncompressedScript = await parley.fetch(script, { headers: { "accept-encoding": "identity" } });
    expect(uncompressedScript.headers.get("content-encoding")).toBeNull();
    expect((await uncompressedScript.text()).length).toBeGreaterThan(1_000_000);
  });
});
