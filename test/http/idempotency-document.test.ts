import { afterAll, beforeAll, expect, test } from "bun:test";
import { createFindIdempotencyMode } from "../../src/http/idempotency-mode.ts";
import { describe as describeOperation } from "../../src/http/openapi.ts";
import { startApp, type TestApp } from "../support/app.ts";

type Operation = {
  operationId: string;
  security: unknown[];
  parameters?: { $ref?: string }[];
  responses: Record<string, { $ref?: string }>;
};
type Document = { paths: Record<string, Record<string, Operation>>; components: { parameters: object } };

let parley: TestApp;
let operations: { method: string; path: string; operation: Operation }[];

beforeAll(async () => {
  parley = await startApp();
  const { paths, components } = (await (await parley.fetch("/swagger/json")).json()) as Document;
  expect(components.parameters).toHaveProperty("IdempotencyKey");
  operations = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, operation })),
  );
});
afterAll(() => parley.stop());

const takesKey = ({ parameters = [] }: Operation) =>
  parameters.some(({ $ref }) => $ref === "#/components/parameters/IdempotencyKey");

test("every POST with a credential documents the header, but for those that create nothing; nothing else does", () => {
  const posts = operations.filter(({ method, operation }) => method === "post" && operation.security.length > 0);
  const without = posts.filter(({ operation }) => !takesKey(operation)).map(({ operation }) => operation.operationId);
  expect(without.sort()).toEqual(["cancelGeneration", "createTicket", "previewPrompt"]);
  expect(posts.length - without.length).toBeGreaterThanOrEqual(8);
  const others = operations.filter((one) => !posts.includes(one) && takesKey(one.operation));
  expect(others).toEqual([]);
  for (const { path, operation } of posts.filter(({ operation }) => takesKey(operation))) {
    expect({ path, conflict: operation.responses[409] !== undefined }).toEqual({ path, conflict: true });
    if (path.startsWith("/api/")) expect({ path, ...operation.responses[422] }).toHaveProperty("$ref");
  }
});

test("how it is declared does not show", async () => {
  expect(await (await parley.fetch("/swagger/json")).text()).not.toContain("x-idempotency-key");
});

test("a route that declares nothing takes it, if it is a POST with a credential in the API", () => {
  const operation = { operationId: "x", summary: "X", tag: "me" } as const;
  const { detail } = describeOperation({ ...operation, scope: "any" });
  const routes = [
    { method: "POST", path: "/api/v1/things", detail },
    { method: "POST", path: "/v1/things", detail },
    { method: "POST", path: "/things", detail },
    { method: "PUT", path: "/api/v1/things", detail },
    { method: "GET", path: "/api/v1/things", detail },
    { method: "POST", path: "/api/v1/bare", detail: undefined },
    { method: "POST", path: "/api/v1/open", detail: describeOperation({ ...operation, public: true }).detail },
    {
      method: "POST",
      path: "/api/v1/exact",
      detail: describeOperation({ ...operation, scope: "any", idempotencyKey: "exact" }).detail,
    },
    {
      method: "POST",
      path: "/api/v1/ignored",
      detail: describeOperation({ ...operation, scope: "any", idempotencyKey: "ignored" }).detail,
    },
  ];
  const find = createFindIdempotencyMode(() => routes);
  const modes = routes.flatMap(({ method, path }) => find(method, path) ?? []);
  expect(modes).toEqual(["stored", "stored", "exact"]);
  expect(find("POST", "/api/v1/exact")).toBe("exact");
});
