import { afterAll, beforeAll, expect, test } from "bun:test";
import { modeOf } from "../../src/http/idempotency.ts";
import { route } from "../../src/http/route.ts";
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

test("every POST with a credential documents the header, except those that create nothing; other operations do not", () => {
  const posts = operations.filter(({ method, operation }) => method === "post" && operation.security.length > 0);
  const without = posts.filter(({ operation }) => !takesKey(operation)).map(({ operation }) => operation.operationId);
  // An import streams a file, and is idempotent anyway.
  expect(without.sort()).toEqual(["cancelGeneration", "createImport", "createTicket", "previewPrompt"]);
  expect(posts.length - without.length).toBeGreaterThanOrEqual(8);
  const others = operations.filter((one) => !posts.includes(one) && takesKey(one.operation));
  expect(others).toEqual([]);
  for (const { path, operation } of posts.filter(({ operation }) => takesKey(operation))) {
    expect({ path, conflict: operation.responses[409] !== undefined }).toEqual({ path, conflict: true });
    if (path.startsWith("/api/")) expect({ path, ...operation.responses[422] }).toHaveProperty("$ref");
  }
});

test("a route without a declaration accepts the header if it is a POST with a credential in the API", () => {
  const handle = () => undefined;
  const shown = { operationId: "x", summary: "X", tag: "me", handle } as const;
  const declared = { ...shown, method: "POST", path: "/api/v1/things", scope: "any" } as const;
  expect(modeOf(route(declared))).toBe("stored");
  expect(modeOf(route({ ...declared, path: "/v1/things" }))).toBe("stored");
  expect(modeOf(route({ ...declared, idempotencyKey: "exact" }))).toBe("exact");
  expect(modeOf(route({ ...declared, idempotencyKey: "ignored" }))).toBeUndefined();
  expect(modeOf(route({ ...declared, path: "/things" }))).toBeUndefined();
  expect(modeOf(route({ ...declared, method: "PUT" }))).toBeUndefined();
  expect(modeOf(route({ ...declared, method: "GET" }))).toBeUndefined();
  expect(modeOf(route({ ...shown, method: "POST", path: "/api/v1/open", public: true }))).toBeUndefined();
});
