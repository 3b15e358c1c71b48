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
  responses: Record<string, Answer>;
};
type Answer = {
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

test("every operation has a unique id, a summary and a known tag", () => {
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(operations.length);
  const known = new Set(document.tags.map(({ name }) => name));
  for (const { name, operation } of operations) {
    expect({ name, id: operation.operationId }).toEqual({ name, id: expect.stringMatching(/^[a-z][A-Za-z]+$/) });
    expect({ name, summary: operation.summary }).toEqual({ name, summary: expect.stringMatching(/\w/) });
    expect({ name, tags: operation.tags?.filter((tag) => known.has(tag)).length }).toEqual({ name, tags: 1 });
  }
});

test("every route of the API is documented, plus the public ones outside it", () => {
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

test("a completion documents how models fail", () => {
  const completion = operations.find(({ name }) => name === "post /v1/chat/completions");
  expect(Object.keys(completion?.operation.responses ?? {})).toEqual(expect.arrayContaining(["422", "502", "504"]));
});

test("every operation documents its success and its errors", () => {
  for (const { name, path, operation } of operations) {
    const statuses = Object.keys(operation.responses);
    expect({ name, ok: statuses.some((status) => /^[12]/.test(status)) }).toEqual({ name, ok: true });
    expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["500", "503"]) });
    if (operation.security?.length)
      expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["401"]) });
    if (path.includes("{")) expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["404"]) });
    if (operation.requestBody)
      expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["400", "413", "415"]) });
    // Below /v1 invalid input is 400, and a 422 comes from a provider.
    if (operation.requestBody && !path.startsWith("/v1/"))
      expect({ name, statuses }).toEqual({ name, statuses: expect.arrayContaining(["422"]) });
    for (const response of Object.values(operation.responses)) {
      const shared = response.$ref?.replace("#/components/responses/", "");
      expect({
        name,
        known: shared === undefined ? Boolean(response.description) : shared in document.components.responses,
      }).toEqual({ name, known: true });
    }
  }
});

/** Request bodies other than JSON. */
const otherTypes: Record<string, string[]> = {
  "post /api/v1/hooks/{token}": ["application/x-www-form-urlencoded", "text/plain"],
  "post /api/v1/imports": ["application/zip", "multipart/form-data"],
};

test("bodies are JSON, and everything under /api/v1 except the login routes requires a credential", () => {
  for (const { name, operation } of operations)
    if (operation.requestBody)
      expect({ name, types: Object.keys(operation.requestBody.content) }).toEqual({
        name,
        types: ["application/json", ...(otherTypes[name] ?? [])],
      });
  const open = operations.filter(({ path, operation }) => path.startsWith("/api/v1/") && !operation.security?.length);
  expect(open.map(({ path }) => path).sort()).toEqual(
    // The address of a hook contains the secret.
    [
      ...["login", "logout", "oidc", "refresh", "register"].map((way) => `/api/v1/auth/${way}`),
      "/api/v1/hooks/{token}",
    ],
  );
});

test("every error is a Problem; below /v1 it has OpenAI's format", () => {
  for (const { name, path, operation } of operations)
    for (const [status, { $ref, content }] of Object.entries(operation.responses).filter(
      ([status]) => status >= "400",
    )) {
      // Probes return a line of text when the instance is not ready.
      if (content?.["text/plain"] && /readyz|healthz/.test(path)) continue;
      const shared = document.components.responses[$ref?.split("/").at(-1) ?? ""];
      const [media] = Object.values(shared?.content ?? {});
      const expected = path.startsWith("/v1/") ? "OpenAiError" : "Problem";
      expect({ name, status, schema: media?.schema.$ref }).toEqual({
        name,
        status,
        schema: `#/components/schemas/${expected}`,
      });
    }
});

test("the schemas of requests and responses have names", () => {
  const { schemas } = document.components;
  expect(Object.keys(schemas)).toEqual(
    expect.arrayContaining([
      ...["ApiKey", "Conversation", "Document", "Member", "Message", "MessageUsage", "Model", "Problem", "Prompt"],
      ...["PromptVersion", "SendMessage", "SentMessage", "Session", "Tokens", "User", "MessagePage", "EventPage"],
    ]),
  );
  const refOf = (path: string, method: string, status: string) =>
    document.paths[path]?.[method]?.responses[status]?.content?.["application/json"]?.schema.$ref;
  const message = "/api/v1/conversations/{id}/messages/{message_id}";
  expect(refOf(message, "get", "200")).toBe("#/components/schemas/Message");
  expect(refOf("/api/v1/conversations", "get", "200")).toBe("#/components/schemas/ConversationPage");
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

test("streams, 304, headers and bounds are documented", () => {
  const find = (path: string, method: string) => document.paths[path]?.[method];
  const messages = find("/api/v1/conversations/{id}/messages", "post");
  expect(Object.keys(messages?.responses["200"]?.content ?? {})).toEqual(["text/event-stream"]);
  expect(messages?.responses["201"]?.headers).toHaveProperty("Location");
  const events = find("/api/v1/conversations/{id}/events", "get");
  expect(Object.keys(events?.responses["200"]?.content ?? {})).toEqual(["application/json", "text/event-stream"]);
  expect(events?.parameters).toContainEqual({ $ref: "#/components/parameters/LastEventId" });
  expect(Object.keys(find("/v1/chat/completions", "post")?.responses["200"]?.content ?? {})).toContain(
    "text/event-stream",
  );
  for (const path of ["/api/v1/conversations/{id}", "/api/v1/prompts/{id}", "/api/v1/documents/{path}"]) {
    expect(find(path, "get")?.responses).toHaveProperty("304");
    expect(find(path, "get")?.responses["200"]?.headers).toHaveProperty("ETag");
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

test("the document is the same on every host", async () => {
  const elsewhere = await startApp({ config: { PUBLIC_URL: "https://chat.example.com", METRICS_TOKEN: "a-token" } });
  try {
    expect(await (await elsewhere.fetch("/swagger/json")).json()).toEqual(document);
  } finally {
    await elsewhere.stop();
  }
});

test("no keyword of the schema library's own dialect is left", () => {
  const text = JSON.stringify(document);
  for (const keyword of ['"const":', '"patternProperties":', '"type":"null"', '"format":"text"', '"anyOf":[]'])
    expect(text).not.toContain(keyword);
});

describe("serving the document", () => {
  test("sends an ETag, and 304 for a known one", async () => {
    const first = await parley.fetch("/swagger/json");
    const etag = first.headers.get("etag") ?? "";
    expect(etag).toMatch(/^".+"$/);
    const second = await parley.fetch("/swagger/json", { headers: { "if-none-match": etag } });
    expect(second.status).toBe(304);
    expect(await second.text()).toBe("");
  });

  test("compresses it for clients that accept gzip, with a separate ETag", async () => {
    const ask = (headers: Record<string, string>) =>
      fetch(`${parley.url}/swagger/json`, { headers, decompress: false });
    const plain = await ask({ "accept-encoding": "identity" });
    for (const accepted of ["gzip", "br, GZIP;q=0.5", "*"]) {
      const small = await ask({ "accept-encoding": accepted });
      expect(small.headers.get("content-encoding")).toBe("gzip");
      expect(small.headers.get("vary")).toContain("Accept-Encoding");
      expect(small.headers.get("etag")).not.toBe(plain.headers.get("etag"));
      const bytes = Bun.gunzipSync(await small.arrayBuffer());
      expect(JSON.parse(new TextDecoder().decode(bytes))).toEqual(document);
      const again = await ask({ "accept-encoding": accepted, "if-none-match": String(small.headers.get("etag")) });
      expect(again.status).toBe(304);
    }
    for (const refused of ["identity", "br", "gzip;q=0", "*;q=0.0"])
      expect((await ask({ "accept-encoding": refused })).headers.get("content-encoding")).toBeNull();
  });

  test("serves a page that loads its script from here and refers to no other server", async () => {
    const page = await (await parley.fetch("/swagger")).text();
    expect(page).not.toMatch(/https?:\/\//);
    const script = /<script src="([^"]+)"/.exec(page)?.[1] ?? "";
    const response = await parley.fetch(script);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toStartWith("text/javascript");
    expect(response.headers.get("cache-control")).toContain("immutable");
    expect(response.headers.get("content-encoding")).toBe("gzip");
    expect((await response.text()).length).toBeGreaterThan(1_000_000);
    const plain = await parley.fetch(script, { headers: { "accept-encoding": "identity" } });
    expect(plain.headers.get("content-encoding")).toBeNull();
    expect((await plain.text()).length).toBeGreaterThan(1_000_000);
  });
});
