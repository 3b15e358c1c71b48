import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { sendRaw } from "../support/send-raw.ts";

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

describe("the Host header", () => {
  const unusualHosts = ["Host: \r\n", "Host: a b\r\n", "Host: [::1\r\n", "Host: x\r\n", "Host: api\r\n"];
  test.each(unusualHosts)("doesn't cause a server error if it is %j", async (host) => {
    const { text: unknownPathResponse } = await sendRaw(
      parley.url,
      `GET /nowhere HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
    );
    expect(unknownPathResponse).toStartWith("HTTP/1.1 4");
    expect(unknownPathResponse).not.toContain("Something went wrong!");
    const { text: versionResponse } = await sendRaw(
      parley.url,
      `GET /version HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
    );
    expect(versionResponse).toMatch(/^HTTP\/1\.1 (200|400)/);
  });

  test("can be missing in HTTP/1.0", async () => {
    const { text: unknownPathResponse } = await sendRaw(parley.url, "GET /nowhere HTTP/1.0\r\n\r\n");
    expect(unknownPathResponse).toContain(" 404 ");
    expect(unknownPathResponse).toContain("application/problem+json");
  });

  test("can be a short name", async () => {
    const { text: documentResponse } = await sendRaw(
      parley.url,
      "GET /api/v1/documents/a/b.md HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n",
    );
    expect(documentResponse).toStartWith("HTTP/1.1 401");
  });
});
