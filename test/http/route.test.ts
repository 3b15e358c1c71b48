import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { BODY_BYTES_MAX } from "../../src/http/body.ts";
import { mount, requireDeclared } from "../../src/http/mount.ts";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { type Route, route } from "../../src/http/route.ts";
import { listOperations, type Operation } from "../security/catalogue.ts";
import { startApp, type TestApp } from "../support/app.ts";

const described = { method: "GET", path: "/probe", operationId: "probe", summary: "Probe", tag: "operations" } as const;
const handle = () => undefined;

describe("a route", () => {
  test("that does not declare its access does not compile", () => {
    // @ts-expect-error neither `scope` nor `public`
    route({ ...described, handle });
    // @ts-expect-error both
    route({ ...described, scope: "any", public: true, handle });
    // @ts-expect-error a public route has no caller
    route({ ...described, public: true, handle: ({ caller }) => void caller });
    // @ts-expect-error the handler returns another type than declared
    route({ ...described, public: true, ok: Type.Object({ n: Type.Integer() }), handle: () => ({ n: "1" }) });
  });

  test("that was not declared is not mounted", () => {
    const declared = route({ ...described, public: true, handle });
    const app = new Elysia().use(mount([declared], []));
    requireDeclared(app, [declared]);
    app.get("/undeclared", () => "open to everybody");
    expect(() => requireDeclared(app, [declared])).toThrow("GET /undeclared was mounted without a declaration.");
  });

  test("with a handler that the framework could not read is not mounted", () => {
    const declared = {
      ...described,
      public: true,
      handle() {
        return undefined;
      },
    } as Route;
    expect(() => mount([declared], [])).toThrow("GET /probe must be an arrow function that destructures its context");
  });

  test("runs its plugins in order, and stops at the first that refuses", async () => {
    const met: string[] = [];
    const step =
      (name: string, refuses = false) =>
      () => ({
        onEnter: () => {
          met.push(name);
          if (refuses) throw new Error(name);
        },
      });
    const declared = route({ ...described, method: "POST", public: true, handle: () => void met.push("handler") });
    const app = new Elysia().use(mount([declared], [step("first"), () => undefined, step("second")]));
    const ask = () => new Request("http://localhost/probe", { method: "POST", body: "not read" });
    const one = await app.handle(new Request("http://localhost/probe", { method: "POST" }));
    expect({ status: one.status, met }).toEqual({ status: 204, met: ["first", "second", "handler"] });
    met.length = 0;
    const strict = new Elysia().use(mount([declared], [step("first", true), step("second")]));
    const request = ask();
    await strict.handle(request);
    expect({ met, isRead: request.bodyUsed }).toEqual({ met: ["first"], isRead: false });
  });
});

describe("authentication comes before input validation", () => {
  let parley: TestApp;
  let operations: Operation[];
  beforeAll(async () => {
    parley = await startApp();
    operations = (await listOperations(parley)).filter(({ isPublic }) => !isPublic);
  });
  afterAll(() => parley.stop());

  const ask = async ({ method, path }: Operation, body: string | null, token?: string) => {
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

  test("without a credential everything returns 401: invalid addresses, invalid and oversized bodies", async () => {
    expect(operations.length).toBeGreaterThan(40);
    for (const operation of operations)
      for (const body of operation.method === "GET" ? [null] : [null, "{", "x".repeat(BODY_BYTES_MAX + 1)]) {
        const { status } = await ask(operation, body);
        expect({ name: operation.name, status }).toEqual({ name: operation.name, status: 401 });
      }
  });

  test("without the scope of a key everything returns 403", async () => {
    const owner = await parley.register();
    const { body } = await parley
      .fetch("/api/v1/api-keys", { token: owner.access_token, json: { name: "Narrow", scopes: ["webhooks:read"] } })
      .then(async (response) => ({ body: (await response.json()) as { key: string } }));
    const closed = operations.filter(({ scope, method }) => scope !== "any" && method !== "GET");
    expect(closed.length).toBeGreaterThan(20);
    for (const operation of closed) {
      const { status } = await ask(operation, "{", body.key);
      expect({ name: operation.name, status }).toEqual({ name: operation.name, status: 403 });
    }
  });

  test("a missing body is explained in a sentence", async () => {
    const { access_token: token } = await parley.register();
    const response = await parley.fetch("/api/v1/prompts", { token, method: "POST" });
    const problem = (await response.json()) as ProblemBody;
    expect(problem).toMatchObject({ status: 422, detail: "Send a JSON body.", errors: [{ pointer: "#" }] });
  });
});
