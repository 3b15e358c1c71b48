import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { sendRaw } from "../support/send-raw.ts";

setDefaultTimeout(20_000);

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

// The server must be ready after every request.
afterEach(async () => {
  expect((await parley.fetch("/readyz")).status).toBe(200);
});

type RawRequest = { method?: string; path?: string; headers?: string; body?: string };

const sendRequest = ({ method = "GET", path = "/version", headers = "", body = "" }: RawRequest) =>
  sendRaw(parley.url, `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n${body}`);

const loginRequest = { method: "POST", path: "/api/v1/auth/login" };
const jsonHeader = "Content-Type: application/json\r\n";

describe("Parley's response", () => {
  const scenarios: (RawRequest & { name: string; status: number; code: string })[] = [
    { name: "an invalid escape", path: "/%zz", status: 404, code: "not_found" },
    { name: "an invalid escape in a parameter", path: "/problems/%zz", status: 404, code: "not_found" },
    { name: "bytes that are not UTF-8", path: "/problems/%ff%fe", status: 404, code: "not_found" },
    { name: "an escaped NUL", path: "/api/v1/documents/a%00b", status: 401, code: "unauthorized" },
    { name: "a path of 9,000 characters", path: `/${"a".repeat(9_000)}`, status: 404, code: "not_found" },
    { name: "path traversal", path: "/../../etc/passwd", status: 404, code: "not_found" },
    { name: "an unsupported method", method: "PROPFIND", status: 405, code: "method_not_allowed" },
    { name: "the TRACE method", method: "TRACE", status: 405, code: "method_not_allowed" },
    { name: "an OPTIONS request that isn't a preflight", method: "OPTIONS", status: 405, code: "method_not_allowed" },
    {
      name: "an absolute URL with a different host",
      path: "http://evil.example/nothing",
      status: 404,
      code: "not_found",
    },
    {
      name: "a Content-Length of 90 GB",
      ...loginRequest,
      headers: `${jsonHeader}Content-Length: 99999999999\r\n`,
      body: "{}",
      status: 413,
      code: "too_large",
    },
    {
      name: "an unsupported content type",
      ...loginRequest,
      headers: "Content-Type: text/xml\r\nContent-Length: 2\r\n",
      body: "{}",
      status: 415,
      code: "unsupported_media_type",
    },
    {
      name: "an incomplete upgrade",
      path: "/realtime",
      headers: "Upgrade: websocket\r\n",
      status: 400,
      code: "malformed",
    },
  ];
  test.each(scenarios)(
    "to $name is a problem with status $status and all headers",
    async ({ status, code, ...request }) => {
      const response = await sendRequest(request);
      expect(response.status).toBe(status);
      expect(JSON.parse(response.body)).toMatchObject({ status, code });
      expect(response.headers).toMatchObject({
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-request-id": expect.stringMatching(/^[\w-]{36}$/),
      });
      if (status === 405) expect(response.headers.allow).toBe("GET, HEAD");
    },
  );
});

describe("the runtime", () => {
  const chunkedHeader = "Transfer-Encoding: chunked\r\n";
  const scenarios: (RawRequest & { name: string; status: number })[] = [
    {
      name: "two different Content-Length headers",
      ...loginRequest,
      headers: `${jsonHeader}Content-Length: 2\r\nContent-Length: 5\r\n`,
      body: "{}abc",
      status: 400,
    },
    {
      name: "a Content-Length with chunked encoding",
      ...loginRequest,
      headers: `${jsonHeader}Content-Length: 6\r\n${chunkedHeader}`,
      body: "0\r\n\r\nG",
      status: 400,
    },
    {
      name: "an unknown transfer encoding",
      ...loginRequest,
      headers: "Transfer-Encoding: xchunked\r\n",
      body: "0\r\n\r\n",
      status: 400,
    },
    {
      name: "a space before a header's colon",
      ...loginRequest,
      headers: "Transfer-Encoding : chunked\r\n",
      body: "0\r\n\r\n",
      status: 400,
    },
    { name: "an invalid Content-Length", ...loginRequest, headers: "Content-Length: +2\r\n", body: "{}", status: 400 },
    {
      name: "an invalid chunk length",
      ...loginRequest,
      headers: jsonHeader + chunkedHeader,
      body: "zz\r\n{}\r\n",
      status: 400,
    },
    { name: "a folded header", headers: "X-A: a\r\n b\r\n", status: 400 },
    { name: "a NUL in a header", headers: "X-A: a\0b\r\n", status: 400 },
    { name: "a header without a colon", headers: "nonsense\r\n", status: 400 },
    { name: "a NUL in the path", path: "/a\0b", status: 505 },
    { name: "300 headers", headers: Array.from({ length: 300 }, (_, i) => `X-${i}: y\r\n`).join(""), status: 431 },
    { name: "a header of 20 KB", headers: `X-A: ${"y".repeat(20_000)}\r\n`, status: 431 },
    { name: "a URL of 20 KB", path: `/version?${"a".repeat(20_000)}`, status: 431 },
    // Status 0 means that the connection is closed without a response.
    { name: "an unknown method", method: "FOO", status: 0 },
  ];
  test.each(scenarios)("rejects $name with status $status", async ({ status, ...request }) => {
    const response = await sendRequest(request);
    expect(response.status).toBe(status);
    // The response doesn't identify the server software, and the remaining bytes aren't parsed as a second request.
    expect(response.body).toBe(response.status === 0 ? response.text : "");
    expect(response.headers.server).toBeUndefined();
  });

  test.each([
    "\x16\x03\x01\x02\x00\x01\x00\x01",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
  ])("rejects the bytes %j", async (bytes) => {
    const response = await sendRaw(parley.url, bytes);
    expect([400, 505]).toContain(response.status);
  });
});

/** If the runtime starts to support one of these features, update docs/security.md ("Errors"). */
describe("the runtime doesn't support", () => {
  const createHeaders = async () => {
    const { access_token } = await parley.register();
    return `Host: localhost\r\nAuthorization: Bearer ${access_token}\r\n`;
  };

  test("pipelining, and drops both requests without a response", async () => {
    const headers = await createHeaders();
    const request = `GET /api/v1/me HTTP/1.1\r\n${headers}\r\n`;
    expect((await sendRaw(parley.url, request + request)).text).toBe("");
  });

  test("trailer fields, and responds with 400", async () => {
    const headers = `${await createHeaders()}${jsonHeader}Transfer-Encoding: chunked\r\n`;
    const { text } = await sendRaw(
      parley.url,
      `POST /api/v1/conversations HTTP/1.1\r\n${headers}\r\n2\r\n{}\r\n0\r\nX-Thing: 1\r\n\r\n`,
    );
    expect(text).toContain("HTTP/1.1 400 Bad Request");
  });
});
