import { afterAll, beforeAll, expect, test } from "bun:test";
import { getIdempotencyMode } from "../../src/http/idempotency.ts";
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

const documentsIdempotencyKey = ({ parameters = [] }: Operation) =>
  parameters.some(({ $ref }) => $ref === "#/components/parameters/IdempotencyKey");

test("only authenticated POST operations that create something document the Idempotency-Key header", () => {
  const postOperations = operations.filter(
    ({ method, operation }) => method === "post" && operation.security.length > 0,
  );
  const undocumentedOperations = postOperations
    .filter(({ operation }) => !documentsIdempotencyKey(operation))
    .map(({ operation }) => operation.operationId);
  // createImport streams a file, and is idempotent without a key.
  expect(undocumentedOperations.sort()).toEqual(["cancelGeneration", "createImport", "createTicket", "previewPrompt"]);
  expect(postOperations.length - undocumentedOperations.length).toBeGreaterThanOrEqual(8);
  const unexpectedOperations = operations.filter(
    (entry) => !postOperations.includes(entry) && documentsIdempotencyKey(entry.operation),
  );
  expect(unexpectedOperations).toEqual([]);
  for (const { path, operation } of postOperations.filter(({ operation }) => documentsIdempotencyKey(operation))) {
    expect({ path, conflict: operation.responses[409] !== undefined }).toEqual({ path, conflict: true });
    if (path.startsWith("/api/")) expect({ path, ...operation.responses[422] }).toHaveProperty("$ref");
  }
});

test("authenticated POST routes in the API accept the Idempotency-Key header by default", () => {
  const handle = () => undefined;
  const base = { operationId: "x", summary: "X", tag: "me", handle } as const;
  const declaration = { ...base, method: "POST", path: "/api/v1/things", scope: "any" } as const;
  expect(getIdempotencyMode(route(declaration))).toBe("stored");
  expect(getIdempotencyMode(route({ ...declaration, path: "/v1/things" }))).toBe("stored");
  expect(getIdempotencyMode(route({ ...declaration, idempotencyKey: "exact" }))).toBe("exact");
  expect(getIdempotencyMode(route({ ...declaration, idempotencyKey: "ignored" }))).toBeUndefined();
  expect(getIdempotencyMode(route({ ...declaration, path: "/things" }))).toBeUndefined();
  expect(getIdempotencyMode(route({ ...declaration, method: "PUT" }))).toBeUndefined();
  expect(getIdempotencyMode(route({ ...declaration, method: "GET" }))).toBeUndefined();
  expect(getIdempotencyMode(route({ ...base, method: "POST", path: "/api/v1/open", public: true }))).toBeUndefined();
});
