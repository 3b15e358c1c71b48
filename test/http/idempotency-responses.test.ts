import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { Type } from "@sinclair/typebox";
import { type Context, Elysia } from "elysia";
import { createAuthenticationPlugin } from "../../src/http/authenticate.ts";
import { createErrorHandler } from "../../src/http/error-handler.ts";
import { createIdempotencyPlugin } from "../../src/http/idempotency.ts";
import { createIdempotencyStore, STORED_RESPONSE_BYTES_MAX } from "../../src/http/idempotency-store.ts";
import { mount } from "../../src/http/mount.ts";
import { requestIdPlugin } from "../../src/http/request-id.ts";
import { route } from "../../src/http/route.ts";
import { createId } from "../../src/lib/id.ts";
import { Problem } from "../../src/lib/problem.ts";
import { silentLog } from "../support/log.ts";
import { createTestDatabase } from "../support/postgres.ts";

type Store = ReturnType<typeof createIdempotencyStore>;
type Handler = (set: Context["set"]) => unknown;

let database: Awaited<ReturnType<typeof createTestDatabase>>["database"];
let store: Store;
let url: string;
let stop: () => Promise<void>;
let key: string;
let callCount: number;
/** The handler of the only route, which each test sets. */
let handle: Handler;
/** The store's methods, which a test can replace. */
let storeResponse: Store["storeResponse"];
let release: Store["release"];

beforeAll(async () => {
  ({ database } = await createTestDatabase());
  const user = { id: createId(), email: "a@b.c", display_name: "A", role: "user" as const, created_at: new Date() };
  await database`insert into users (id, email, email_key, display_name) values (${user.id}, 'a@b.c', 'a@b.c', 'A')`;
  store = createIdempotencyStore({ database, jwtSecret: "a secret of the tests", instanceId: createId() });
  const replaceableStore: Store = {
    ...store,
    storeResponse: (...args) => storeResponse(...args),
    release: (claim) => release(claim),
  };
  const caller = {
    user,
    credentialId: createId(),
    scopes: null,
    expiresAtMs: Number.POSITIVE_INFINITY,
    ipAddress: null,
  };
  const testRoute = route({
    method: "POST",
    path: "/api/v1/test",
    operationId: "test",
    summary: "Test",
    tag: "operations",
    scope: "any",
    ok: Type.Any(),
    handle: async ({ set }) => {
      callCount += 1;
      return handle(set);
    },
  });
  const app = new Elysia({ normalize: false })
    .use(requestIdPlugin)
    .onError(createErrorHandler({ log: silentLog, findMethods: () => [] }))
    .use(
      mount(
        [testRoute],
        [
          createAuthenticationPlugin({ identify: async () => caller, getClientAddress: () => null }),
          createIdempotencyPlugin({ store: replaceableStore, log: silentLog }),
        ],
      ),
    )
    .listen({ port: 0, hostname: "127.0.0.1" });
  url = `http://127.0.0.1:${app.server?.port}/api/v1/test`;
  stop = async () => {
    await app.stop(true);
    await database.end();
  };
});
beforeEach(() => {
  key = createId();
  callCount = 0;
  ({ storeResponse, release } = store);
});
afterAll(() => stop());

async function sendRequest() {
  const headers = { authorization: "Bearer x", "idempotency-key": key };
  const response = await fetch(url, { method: "POST", headers });
  const isReplayed = response.headers.get("idempotent-replayed") === "true";
  return { status: response.status, headers: response.headers, text: await response.text(), isReplayed };
}

describe("a stored response", () => {
  test("has the original status and headers, whether the handler returned an object or a Response", async () => {
    const keptHeaders = { etag: '"1"', location: "/x", "cache-control": "no-store", link: "</y>; rel=next" };
    const allHeaders = { ...keptHeaders, "x-other": "1" };
    for (const createResponse of [
      () => Response.json({ n: callCount }, { status: 202, headers: allHeaders }),
      (set: Parameters<Handler>[0]) => {
        set.status = 202;
        Object.assign(set.headers, allHeaders);
        return { n: callCount };
      },
    ]) {
      handle = createResponse;
      key = createId();
      const [firstResponse, secondResponse] = [await sendRequest(), await sendRequest()];
      expect(firstResponse.headers.get("x-other")).toBe("1");
      expect(secondResponse.headers.get("x-other")).toBeNull();
      expect([secondResponse.status, secondResponse.text]).toEqual([202, firstResponse.text]);
      expect(secondResponse.headers.get("content-type")).toBe(firstResponse.headers.get("content-type"));
      for (const [name, value] of Object.entries(keptHeaders)) {
        expect(firstResponse.headers.get(name)).toBe(value);
        expect(secondResponse.headers.get(name)).toBe(value);
      }
      expect([firstResponse.isReplayed, secondResponse.isReplayed]).toEqual([false, true]);
    }
    expect(callCount).toBe(2);
  });

  test("can be empty or text", async () => {
    for (const [value, status, text] of [
      [undefined, 204, ""],
      ["zwölf\nZeilen", 200, "zwölf\nZeilen"],
    ] as const) {
      key = createId();
      handle = (set) => {
        set.status = status;
        return value;
      };
      for (const isReplayed of [false, true]) expect(await sendRequest()).toMatchObject({ status, text, isReplayed });
    }
    expect(callCount).toBe(2);
  });

  test.each([400, 409, 413, 422])("can have the status %p", async (status) => {
    handle = () => new Response("no", { status });
    expect(await sendRequest()).toMatchObject({ status, isReplayed: false });
    expect(await sendRequest()).toMatchObject({ status, text: "no", isReplayed: true });
    expect(callCount).toBe(1);
  });

  test.each([401, 403, 404, 408, 425, 429, 500, 502, 503])(
    "can't have the status %p, so a repeated request runs again",
    async (status) => {
      handle = () => new Response("later", { status });
      await sendRequest();
      handle = () => "done";
      expect(await sendRequest()).toMatchObject({ status: 200, text: "done", isReplayed: false });
      expect(callCount).toBe(2);
    },
  );

  test("can be a thrown problem", async () => {
    handle = () => {
      throw new Problem("rate_limited", "Later.", { retryAfterMs: 1_000 });
    };
    expect(await sendRequest()).toMatchObject({ status: 429, isReplayed: false });
    handle = () => {
      throw new Problem("conflict", "Taken.");
    };
    const firstResponse = await sendRequest();
    expect(firstResponse.status).toBe(409);
    handle = () => "done";
    expect(await sendRequest()).toMatchObject({ status: 409, text: firstResponse.text, isReplayed: true });
  });
});

describe("a temporary error", () => {
  const temporaryResponses: [number, () => Problem | Response][] = [
    [401, () => new Problem("unauthorized", "Not yet.")],
    [403, () => new Problem("forbidden", "Not yet.")],
    [403, () => new Problem("quota_exceeded", "Full.")],
    [403, () => new Problem("reauthentication_required", "Who are you?")],
    [404, () => new Problem("not_found", "Not yet.")],
    [429, () => new Problem("rate_limited", "Later.")],
    [429, () => new Problem("budget_exceeded", "Tomorrow.")],
    [500, () => new Problem("internal", "A fault.")],
    [503, () => new Problem("overloaded", "Later.")],
    [401, () => new Response("no", { status: 401 })],
    [404, () => new Response("no", { status: 404 })],
    [429, () => new Response("no", { status: 429 })],
    [502, () => new Response("no", { status: 502 })],
  ];

  test.each(temporaryResponses)(
    "isn't stored if its status is %i, so the same request can run again and have its result stored",
    async (status, createResult) => {
      handle = () => {
        const result = createResult();
        if (result instanceof Response) return result;
        throw result;
      };
      for (const _ of [1, 2]) expect(await sendRequest()).toMatchObject({ status, isReplayed: false });
      expect(callCount).toBe(2);
      handle = (set) => {
        set.status = 201;
        return { id: callCount };
      };
      expect(await sendRequest()).toMatchObject({ status: 201, text: '{"id":3}', isReplayed: false });
      expect(await sendRequest()).toMatchObject({ status: 201, text: '{"id":3}', isReplayed: true });
    },
  );

  test("allows all waiting requests to run", async () => {
    handle = async () => {
      await Bun.sleep(100);
      throw new Problem("rate_limited", "Later.");
    };
    const responses = await Promise.all([sendRequest(), sendRequest(), sendRequest()]);
    expect(responses.map(({ status, isReplayed }) => ({ status, isReplayed }))).toEqual(
      Array.from({ length: 3 }, () => ({ status: 429, isReplayed: false })),
    );
    expect(callCount).toBe(3);
  });

  test("is distinguished from a permanent error, which is stored", async () => {
    for (const code of ["conflict", "precondition_failed", "unknown_model", "malformed"] as const) {
      key = createId();
      handle = () => {
        throw new Problem(code, "It stays so.");
      };
      expect((await sendRequest()).isReplayed).toBe(false);
      expect((await sendRequest()).isReplayed).toBe(true);
    }
    expect(callCount).toBe(4);
  });
});

describe("a response that can't be stored", () => {
  test("because it is too large causes 409 when the request is repeated", async () => {
    handle = () => "a".repeat(STORED_RESPONSE_BYTES_MAX);
    await sendRequest();
    expect(await sendRequest()).toMatchObject({
      status: 200,
      isReplayed: true,
      text: "a".repeat(STORED_RESPONSE_BYTES_MAX),
    });
    key = createId();
    handle = () => "a".repeat(STORED_RESPONSE_BYTES_MAX + 1);
    expect((await sendRequest()).text).toHaveLength(STORED_RESPONSE_BYTES_MAX + 1);
    const secondResponse = await sendRequest();
    expect(secondResponse.status).toBe(409);
    expect(JSON.parse(secondResponse.text)).toMatchObject({ code: "idempotency_answer_not_kept" });
    expect(callCount).toBe(2);
  });

  test("because it is a stream is sent unchanged, and causes 409 when the request is repeated", async () => {
    handle = () => new Response("data: 1\n\n", { headers: { "content-type": "text/event-stream; charset=utf-8" } });
    expect(await sendRequest()).toMatchObject({ status: 200, text: "data: 1\n\n", isReplayed: false });
    expect((await sendRequest()).status).toBe(409);
    expect(callCount).toBe(1);
  });

  test("because it was encrypted with a different secret causes 409 when the request is repeated", async () => {
    handle = () => "done";
    await sendRequest();
    const updateResult = await database`update idempotency_keys set answer = '\\x00'::bytea || substr(answer, 2)`;
    expect(updateResult.count).toBeGreaterThan(0);
    const { status, text } = await sendRequest();
    expect([status, JSON.parse(text).code]).toEqual([409, "idempotency_answer_not_kept"]);
    expect(callCount).toBe(1);
  });

  test("because the database is unavailable is still returned to the client", async () => {
    handle = () => "done";
    storeResponse = async () => {
      throw Object.assign(new Error("gone"), { code: "CONNECTION_CLOSED" });
    };
    expect(await sendRequest()).toMatchObject({ status: 200, text: "done" });
    // The run can't be recorded as finished, so it counts as running until its lease expires.
    expect((await sendRequest()).status).toBe(409);
    handle = () => new Response("", { status: 503 });
    key = createId();
    release = storeResponse as unknown as Store["release"];
    expect((await sendRequest()).status).toBe(503);
    expect(callCount).toBe(2);
  });
});
