import { afterEach, expect, test } from "bun:test";
import { Elysia } from "elysia";
import { openDatabase } from "../../src/db/client.ts";
import { createErrorHandler } from "../../src/http/error-handler.ts";
import { mount, type RoutePlugin } from "../../src/http/mount.ts";
import { requestId } from "../../src/http/request-id.ts";
import { route } from "../../src/http/route.ts";
import { silentLog } from "../support/log.ts";

const lines: { level: string; line: { code?: string; reason?: string } }[] = [];
afterEach(() => void lines.splice(0));
const log = {
  ...silentLog,
  warn: (line: object) => void lines.push({ level: "warn", line }),
  error: (line: object) => void lines.push({ level: "error", line }),
} as typeof silentLog;

const createProbe = (method: "GET" | "POST") =>
  route({
    method,
    path: "/probe",
    operationId: "probe",
    summary: "Probe",
    tag: "operations",
    public: true,
    handle: () => undefined,
  });
const sendProbe = async (method: "GET" | "POST", plugin: RoutePlugin, body?: ReadableStream) => {
  const app = new Elysia()
    .use(requestId)
    .onError(createErrorHandler({ log, findMethods: () => [] }))
    .use(mount([createProbe(method)], [plugin]));
  const response = await app.handle(
    new Request("http://localhost/probe", { method, body, duplex: "half" } as RequestInit),
  );
  return { status: response.status, code: ((await response.json()) as { code: string }).code };
};

test.each(["GET", "POST"] as const)(
  "a database outage before the body of a %s request is read is logged with its reason",
  async (method) => {
    const database = openDatabase({ target: { url: "postgres://nobody@127.0.0.1:1/none" }, poolSize: 1 });
    const plugin: RoutePlugin = () => ({ onEnter: async () => void (await database`select 1`) });
    expect(await sendProbe(method, plugin)).toEqual({ status: 503, code: "unavailable" });
    await database.end({ timeout: 0 });
    expect(lines).toEqual([
      { level: "warn", line: expect.objectContaining({ reason: expect.stringMatching(/ECONNREFUSED/) }) },
    ]);
  },
);

test("a client that disconnects while sending a body doesn't cause a server error", async () => {
  const body = new ReadableStream({ pull: (controller) => controller.error(new Error("The connection was closed.")) });
  expect(await sendProbe("POST", () => undefined, body)).toEqual({ status: 400, code: "malformed" });
  expect(lines).toEqual([]);
});
