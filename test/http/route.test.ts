import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { BODY_BYTES_MAX } from "../../src/http/body.ts";
import { mount, requireDeclaredRoutes } from "../../src/http/mount.ts";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { type Route, route } from "../../src/http/route.ts";
import { listOperations, type Operation } from "../security/catalog.ts";
import { startApp, type TestApp } from "../support/app.ts";

const baseRoute = { method: "GET", path: "/probe", operationId: "probe", summary: "Probe", tag: "operations" } as const;
const handle = () => undefined;

describe("a route", () => {
  test("doesn't compile if its declaration is incomplete or inconsistent", () => {
    // @ts-expect-error the route has neither `scope` nor `public`
    route({ ...baseRoute, handle });
    // @ts-expect-error the route has both `scope` and `public`
    route({ ...baseRoute, scope: "any", public: true, handle });
    // @ts-expect-error a public route has no caller
    route({ ...baseRoute, public: true, handle: ({ caller }) => void caller });
    // @ts-expect-error the handler doesn't return the declared type
    route({ ...baseRoute, public: true, ok: Type.Object({ n: Type.Integer() }), handle: () => ({ n: "1" }) });
  });

  test("causes an error if it is mounted without a declaration", () => {
    const declaredRoute = route({ ...baseRoute, public: true, handle });
    const app = new Elysia().use(mount([declaredRoute], []));
    requireDeclaredRoutes(app, [declaredRoute]);
    app.get("/undeclared", () => "open to everybody");
    expect(() => requireDeclaredRoutes(app, [declaredRoute])).toThrow(
      "GET /undeclared was mounted without a declaration.",
    );
  });

  test("causes an error if Elysia can't analyze its handler", () => {
    const declaredRoute = {
      ...baseRoute,
      public: true,
      handle() {
        return undefined;
      },
    } as Route;
    expect(() => mount([declaredRoute], [])).toThrow(
      "GET /probe must be an arrow function that destructures its context",
    );
  });

  test("runs its plugins in order, and stops at the first one that throws", async () => {
    const calls: string[] = [];
    const createPlugin =
      (name: string, throws = false) =>
      () => ({
        onEnter: () => {
          calls.push(name);
          if (throws) throw new Error(name);
        },
      });
    const declaredRoute = route({
      ...baseRoute,
      method: "POST",
      public: true,
      handle: () => void calls.push("handler"),
    });
    const app = new Elysia().use(
      mount([declaredRoute], [createPlugin("first"), () => undefined, createPlugin("second")]),
    );
    const createRequest = () => new Request("http://localhost/probe", { method: "POST", body: "not read" });
    const response = await app.handle(new Request("http://localhost/probe", { method: "POST" }));
    expect({ status: response.status, calls }).toEqual({ status: 204, calls: ["first", "second", "handler"] });
    calls.length = 0;
    const rejectingApp = new Elysia().use(
      mount([declaredRoute], [createPlugin("first", true), createPlugin("second")]),
    );
    const request = createRequest();
    await rejectingApp.handle(request);
    expect({ calls, isRead: request.bodyUsed }).toEqual({ calls: ["first"], isRead: false });
  });
});

describe("authentication happens before input validation:", () => {
  let parley: TestApp;
  let operations: Operation[];
  beforeAll(async () => {
    parley = await startApp();
    operations = (await listOperations(parley)).filter(({ isPublic }) => !isPublic);
  });
  afterAll(() => parley.stop());

  const sendInvalidRequest = async ({ method, path }: Operation, body: string | null, token?: string) => {
    const response = await fetch(`${parley.url}${path.replaceAll(/\{\w+\}/g, "not-a-uuid")}?limit=nonsense`, {
      method,
      body,
      headers: {
        ...(body !== null && { "content-type": "text/plain" }),
        ...(token && { authorization: `Bearer ${token}` }),
      },
    });
    return { status: response.status, body: await response.text() };
  };

  test("without credentials, requests with invalid parameters or bodies return 401", async () => {
    expect(operations.length).toBeGreaterThan(40);
    for (const operation of operations)
      for (const body of operation.method === "GET" ? [null] : [null, "{", "x".repeat(BODY_BYTES_MAX + 1)]) {
        const { status } = await sendInvalidRequest(operation, body);
        expect({ name: operation.name, status }).toEqual({ name: operation.name, status: 401 });
      }
  });

  test("without the required scope, requests with invalid parameters or bodies return 403", async () => {
    const owner = await parley.register();
    const { body } = await parley
      .fetch("/api/v1/api-keys", { token: owner.access_token, json: { name: "Narrow", scopes: ["webhooks:read"] } })
      .then(async (response) => ({ body: (await response.json()) as { key: string } }));
    const restrictedOperations = operations.filter(({ scope, method }) => scope !== "any" && method !== "GET");
    expect(restrictedOperations.length).toBeGreaterThan(20);
    for (const operation of restrictedOperations) {
      const { status } = await sendInvalidRequest(operation, "{", body.key);
      expect({ name: operation.name, status }).toEqual({ name: operation.name, status: 403 });
    }
  });

  test("with valid credentials, a missing body returns 422", async () => {
    const { access_token: token } = await parley.register();
    const response = await parley.fetch("/api/v1/prompts", { token, method: "POST" });
    const problem = (await response.json()) as ProblemBody;
    expect(problem).toMatchObject({ status: 422, detail: "Send a JSON body.", errors: [{ pointer: "#" }] });
  });
});
