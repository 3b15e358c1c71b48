import { afterEach, expect, test } from "bun:test";
import { Elysia } from "elysia";
import { openDatabase } from "../../src/db/client.ts";
import { createErrorHandler } from "../../src/http/error-handler.ts";
import { mount, type RoutePlugin } from "../../src/http/mount.ts";
import { requestIdPlugin } from "../../src/http/request-id.ts";
import { route } from "../../src/http/route.ts";
import { silentLog } from "../support/log.ts";

const lines: { level: string; fields: { code?: string; reason?: string } }[] = [];
afterEach(() => void lines.splice(0));
const log = {
  ...silentLog,
  warn: (fields: object) => void lines.push({ level: "warn", fields }),
  error: (fields: object) => void lines.push({ level: "error", fields }),
} as typeof silentLog;

const createTestRoute = (method: "GET" | "POST") =>
  route({
    method,
    path: "/test",
    operationId: "test",
    summary: "Test",
    tag: "operations",
    public: true,
    handle: () => undefined,
  });
const requestTestRoute = async (method: "GET" | "POST", plugin: RoutePlugin, body?: ReadableStream) => {
  const app = new Elysia()
    .use(requestIdPlugin)
    .onError(createErrorHandler({ log, findMethods: () => [] }))
    .use(mount([createTestRoute(method)], [plugin]));
  const response = await app.handle(
    new Request("http://localhost/test", { method, body, duplex: "half" } as RequestInit),
  );
  return { status: response.status, code: ((await response.json()) as { code: string }).code };
};

test.each(["GET", "POST"] as const)(
  "if the database is down before the body of a %s request is read, the reason is logged",
  async (method) => {
    const database = openDatabase({ target: { url: "postgres://nobody@127.0.0.1:1/none" }, poolSize: 1 });
    const plugin: RoutePlugin = () => ({ onEnter: async () => void (await database`select 1`) });
    expect(await requestTestRoute(method, plugin)).toEqual({ status: 503, code: "unavailable" });
    await database.end({ timeout: 0 });
    expect(lines).toEqual([
      { level: "warn", fields: expect.objectContaining({ reason: expect.stringMatching(/ECONNREFUSED/) }) },
    ]);
  },
);

test("a client that disconnects while sending a body doesn't cause a server error", async () => {
  const body = new ReadableStream({ pull: (controller) => controller.error(new Error("The connection was closed.")) });
  expect(await requestTestRoute("POST", () => undefined, body)).toEqual({ status: 400, code: "malformed" });
  expect(lines).toEqual([]);
});
