import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

/** What no HTTP library would send. */
function sendRaw(request: string): Promise<string> {
  const { hostname, port } = new URL(parley.url);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect(Number(port), hostname);
  let received = "";
  socket.on("data", (bytes) => {
    received += bytes.toString();
  });
  socket.on("close", () => resolve(received));
  socket.on("error", reject);
  socket.write(request);
  return promise;
}

describe("the Host header", () => {
  const odd = ["Host: \r\n", "Host: a b\r\n", "Host: [::1\r\n", "Host: x\r\n", "Host: api\r\n"];
  test.each(odd)("%j makes no server error, and finds every route", async (host) => {
    const missing = await sendRaw(`GET /nowhere HTTP/1.1\r\n${host}Connection: close\r\n\r\n`);
    expect(missing).toStartWith("HTTP/1.1 4");
    expect(missing).not.toContain("Something went wrong!");
    const version = await sendRaw(`GET /version HTTP/1.1\r\n${host}Connection: close\r\n\r\n`);
    expect(version).toMatch(/^HTTP\/1\.1 (200|400)/);
  });

  test("may be missing in HTTP/1.0", async () => {
    const missing = await sendRaw("GET /nowhere HTTP/1.0\r\n\r\n");
    expect(missing).toContain(" 404 ");
    expect(missing).toContain("application/problem+json");
  });

  test("may be a short name", async () => {
    const documents = await sendRaw("GET /api/v1/documents/a/b.md HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n");
    expect(documents).toStartWith("HTTP/1.1 401");
  });
});
