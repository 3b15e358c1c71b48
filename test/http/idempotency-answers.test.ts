import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { Type } from "@sinclair/typebox";
import { type Context, Elysia } from "elysia";
import { createAuthenticate } from "../../src/http/authenticate.ts";
import { createErrorHandler } from "../../src/http/error-handler.ts";
import { createIdempotency } from "../../src/http/idempotency.ts";
import { createIdempotencyStore, STORED_ANSWER_BYTES_MAX } from "../../src/http/idempotency-store.ts";
import { mount } from "../../src/http/mount.ts";
import { requestId } from "../../src/http/request-id.ts";
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
let calls: number;
/** The handler of the only route; set by each test. */
let handle: Handler;
let keep: Store["keep"];
let release: Store["release"];

beforeAll(async () => {
  ({ database } = await createTestDatabase());
  const user = { id: createId(), email: "a@b.c", display_name: "A", role: "user" as const, created_at: new Date() };
  await database`insert into users (id, email, email_key, display_name) values (${user.id}, 'a@b.c', 'a@b.c', 'A')`;
  store = createIdempotencyStore({ database, jwtSecret: "a secret of the tests", instanceId: createId() });
  const watched: Store = { ...store, keep: (...rest) => keep(...rest), release: (claim) => release(claim) };
  const caller = {
    user,
    credentialId: createId(),
    scopes: null,
    expiresAtMs: Number.POSITIVE_INFINITY,
    ipAddress: null,
  };
  const probe = route({
    method: "POST",
    path: "/api/v1/probe",
    operationId: "probe",
    summary: "Probe",
    tag: "operations",
    scope: "any",
    ok: Type.Any(),
    handle: async ({ set }) => {
      calls += 1;
      return handle(set);
    },
  });
  const app = new Elysia({ normalize: false })
    .use(requestId)
    .onError(createErrorHandler({ log: silentLog, findMethods: () => [] }))
    .use(
      mount(
        [probe],
        [
          createAuthenticate({ identify: async () => caller, readClientAddress: () => null }),
          createIdempotency({ store: watched, log: silentLog }),
        ],
      ),
    )
    .listen({ port: 0, hostname: "127.0.0.1" });
  url = `http://127.0.0.1:${app.server?.port}/api/v1/probe`;
  stop = async () => {
    await app.stop(true);
    await database.end();
  };
});
beforeEach(() => {
  key = createId();
  calls = 0;
  ({ keep, release } = store);
});
afterAll(() => stop());

async function ask() {
  const headers = { authorization: "Bearer x", "idempotency-key": key };
  const response = await fetch(url, { method: "POST", headers });
  const isReplayed = response.headers.get("idempotent-replayed") === "true";
  return { status: response.status, headers: response.headers, text: await response.text(), isReplayed };
}

describe("a stored response", () => {
  test("has its status and headers, from an object and from a response", async () => {
    const kept = { etag: '"1"', location: "/x", "cache-control": "no-store", link: "</y>; rel=next" };
    const shown = { ...kept, "x-other": "1" };
    for (const made of [
      () => Response.json({ n: calls }, { status: 202, headers: shown }),
      (set: Parameters<Handler>[0]) => {
        set.status = 202;
        Object.assign(set.headers, shown);
        return { n: calls };
      },
    ]) {
      handle = made;
      key = createId();
      const [first, second] = [await ask(), await ask()];
      expect(first.headers.get("x-other")).toBe("1");
      expect(second.headers.get("x-other")).toBeNull();
      expect([second.status, second.text]).toEqual([202, first.text]);
      expect(second.headers.get("content-type")).toBe(first.headers.get("content-type"));
      for (const [name, value] of Object.entries(kept)) {
        expect(first.headers.get(name)).toBe(value);
        expect(second.headers.get(name)).toBe(value);
      }
      expect([first.isReplayed, second.isReplayed]).toEqual([false, true]);
    }
    expect(calls).toBe(2);
  });

  test("may have no body, or text", async () => {
    for (const [value, status, text] of [
      [undefined, 204, ""],
      ["zwölf\nZeilen", 200, "zwölf\nZeilen"],
    ] as const) {
      key = createId();
      handle = (set) => {
        set.status = status;
        return value;
      };
      for (const isReplayed of [false, true]) expect(await ask()).toMatchObject({ status, text, isReplayed });
    }
    expect(calls).toBe(2);
  });

  test.each([400, 409, 413, 422])("includes a %p error, which is a result", async (status) => {
    handle = () => new Response("no", { status });
    expect(await ask()).toMatchObject({ status, isReplayed: false });
    expect(await ask()).toMatchObject({ status, text: "no", isReplayed: true });
    expect(calls).toBe(1);
  });

  test.each([401, 403, 404, 408, 425, 429, 500, 502, 503])("excludes %p: the operation runs again", async (status) => {
    handle = () => new Response("later", { status });
    await ask();
    handle = () => "done";
    expect(await ask()).toMatchObject({ status: 200, text: "done", isReplayed: false });
    expect(calls).toBe(2);
  });

  test("includes a thrown problem", async () => {
    handle = () => {
      throw new Problem("rate_limited", "Later.", { retryAfterMs: 1_000 });
    };
    expect(await ask()).toMatchObject({ status: 429, isReplayed: false });
    handle = () => {
      throw new Problem("conflict", "Taken.");
    };
    const first = await ask();
    expect(first.status).toBe(409);
    handle = () => "done";
    expect(await ask()).toMatchObject({ status: 409, text: first.text, isReplayed: true });
  });
});

describe("a response that is no result of the operation", () => {
  const passing: [number, () => Problem | Response][] = [
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

  test.each(passing)(
    "with %i is not stored: the same request runs again, and its response is stored",
    async (status, create) => {
      handle = () => {
        const answer = create();
        if (answer instanceof Response) return answer;
        throw answer;
      };
      for (const _ of [1, 2]) expect(await ask()).toMatchObject({ status, isReplayed: false });
      expect(calls).toBe(2);
      handle = (set) => {
        set.status = 201;
        return { id: calls };
      };
      expect(await ask()).toMatchObject({ status: 201, text: '{"id":3}', isReplayed: false });
      expect(await ask()).toMatchObject({ status: 201, text: '{"id":3}', isReplayed: true });
    },
  );

  test("lets every request that waited for the refused one run", async () => {
    handle = async () => {
      await Bun.sleep(100);
      throw new Problem("rate_limited", "Later.");
    };
    const all = await Promise.all([ask(), ask(), ask()]);
    expect(all.map(({ status, isReplayed }) => ({ status, isReplayed }))).toEqual(
      Array.from({ length: 3 }, () => ({ status: 429, isReplayed: false })),
    );
    expect(calls).toBe(3);
  });

  test("other responses are stored, including errors", async () => {
    for (const code of ["conflict", "precondition_failed", "unknown_model", "malformed"] as const) {
      key = createId();
      handle = () => {
        throw new Problem(code, "It is so.");
      };
      expect((await ask()).isReplayed).toBe(false);
      expect((await ask()).isReplayed).toBe(true);
    }
    expect(calls).toBe(4);
  });
});

describe("a response that can't be stored", () => {
  test("up to the size limit a response is stored; above it, only the fact that it was sent", async () => {
    handle = () => "a".repeat(STORED_ANSWER_BYTES_MAX);
    await ask();
    expect(await ask()).toMatchObject({ status: 200, isReplayed: true, text: "a".repeat(STORED_ANSWER_BYTES_MAX) });
    key = createId();
    handle = () => "a".repeat(STORED_ANSWER_BYTES_MAX + 1);
    expect((await ask()).text).toHaveLength(STORED_ANSWER_BYTES_MAX + 1);
    const second = await ask();
    expect(second.status).toBe(409);
    expect(JSON.parse(second.text)).toMatchObject({ code: "idempotency_answer_not_kept" });
    expect(calls).toBe(2);
  });

  test("a stream reaches its reader unchanged, and does not run again", async () => {
    handle = () => new Response("data: 1\n\n", { headers: { "content-type": "text/event-stream; charset=utf-8" } });
    expect(await ask()).toMatchObject({ status: 200, text: "data: 1\n\n", isReplayed: false });
    expect((await ask()).status).toBe(409);
    expect(calls).toBe(1);
  });

  test("a response encrypted with another secret counts as not stored", async () => {
    handle = () => "done";
    await ask();
    const changed = await database`update idempotency_keys set answer = '\\x00'::bytea || substr(answer, 2)`;
    expect(changed.count).toBeGreaterThan(0);
    const { status, text } = await ask();
    expect([status, JSON.parse(text).code]).toEqual([409, "idempotency_answer_not_kept"]);
    expect(calls).toBe(1);
  });

  test("a database outage after the operation does not withhold the response from the caller", async () => {
    handle = () => "done";
    keep = async () => {
      throw Object.assign(new Error("gone"), { code: "CONNECTION_CLOSED" });
    };
    expect(await ask()).toMatchObject({ status: 200, text: "done" });
    // The run can't be recorded as finished, so it counts as running until its lease expires.
    expect((await ask()).status).toBe(409);
    handle = () => new Response("", { status: 503 });
    key = createId();
    release = keep as unknown as Store["release"];
    expect((await ask()).status).toBe(503);
    expect(calls).toBe(2);
  });
});
