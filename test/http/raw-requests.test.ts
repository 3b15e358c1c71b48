import { afterAll, afterEach, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { startApp, type TestApp } from "../support/app.ts";
import { sendRaw } from "../support/send-raw.ts";

setDefaultTimeout(20_000);

let parley: TestApp;

beforeAll(async () => {
  parley = await startApp();
});
afterAll(() => parley.stop());

/** Whatever came in, the server goes on. */
afterEach(async () => {
  expect((await parley.fetch("/readyz")).status).toBe(200);
});

type Request = { method?: string; path?: string; headers?: string; body?: string };

const send = ({ method = "GET", path = "/version", headers = "", body = "" }: Request) =>
  sendRaw(parley.url, `${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n${body}`);

const login = { method: "POST", path: "/api/v1/auth/login" };
const json = "Content-Type: application/json\r\n";

describe("what reaches our code is answered as a problem, with every header", () => {
  const scenarios: (Request & { name: string; status: number; code: string })[] = [
    { name: "an escape that is none", path: "/%zz", status: 404, code: "not_found" },
    { name: "an escape that is none, in a parameter", path: "/problems/%zz", status: 404, code: "not_found" },
    { name: "bytes that are no UTF-8", path: "/problems/%ff%fe", status: 404, code: "not_found" },
    { name: "an escaped NUL", path: "/api/v1/documents/a%00b", status: 401, code: "unauthorized" },
    { name: "an address of 9,000 characters", path: `/${"a".repeat(9_000)}`, status: 404, code: "not_found" },
    { name: "dots that climb", path: "/../../etc/passwd", status: 404, code: "not_found" },
    { name: "a method that nothing answers to", method: "PROPFIND", status: 405, code: "method_not_allowed" },
    { name: "TRACE", method: "TRACE", status: 405, code: "method_not_allowed" },
    { name: "OPTIONS that is no preflight", method: "OPTIONS", status: 405, code: "method_not_allowed" },
    {
      name: "an absolute address of another host",
      path: "http://evil.example/nothing",
      status: 404,
      code: "not_found",
    },
    {
      name: "a body of 90 GB, by its own account",
      ...login,
      headers: `${json}Content-Length: 99999999999\r\n`,
      body: "{}",
      status: 413,
      code: "too_large",
    },
    {
      name: "a body of another type",
      ...login,
      headers: "Content-Type: text/xml\r\nContent-Length: 2\r\n",
      body: "{}",
      status: 415,
      code: "unsupported_media_type",
    },
    {
      name: "an upgrade that is half of one",
      path: "/realtime",
      headers: "Upgrade: websocket\r\n",
      status: 400,
      code: "malformed",
    },
  ];
  test.each(scenarios)("$name: $status", async ({ status, code, ...request }) => {
    const answer = await send(request);
    expect(answer.status).toBe(status);
    expect(JSON.parse(answer.body)).toMatchObject({ status, code });
    expect(answer.headers).toMatchObject({
      "content-type": "application/problem+json",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      "x-request-id": expect.stringMatching(/^[\w-]{36}$/),
    });
    if (status === 405) expect(answer.headers.allow).toBe("GET, HEAD");
  });
});

describe("what is no HTTP, or could be read in two ways, is refused by the runtime", () => {
  const chunked = "Transfer-Encoding: chunked\r\n";
  const scenarios: (Request & { name: string; status: number })[] = [
    {
      name: "two lengths that differ",
      ...login,
      headers: `${json}Content-Length: 2\r\nContent-Length: 5\r\n`,
      body: "{}abc",
      status: 400,
    },
    {
      name: "a length and chunks",
      ...login,
      headers: `${json}Content-Length: 6\r\n${chunked}`,
      body: "0\r\n\r\nG",
      status: 400,
    },
    {
      name: "an encoding that is none",
      ...login,
      headers: "Transfer-Encoding: xchunked\r\n",
      body: "0\r\n\r\n",
      status: 400,
    },
    {
      name: "a space before the colon",
      ...login,
      headers: "Transfer-Encoding : chunked\r\n",
      body: "0\r\n\r\n",
      status: 400,
    },
    { name: "a length that is no number", ...login, headers: "Content-Length: +2\r\n", body: "{}", status: 400 },
    { name: "a chunk whose length is no number", ...login, headers: json + chunked, body: "zz\r\n{}\r\n", status: 400 },
    { name: "a folded header", headers: "X-A: a\r\n b\r\n", status: 400 },
    { name: "a NUL in a header", headers: "X-A: a\0b\r\n", status: 400 },
    { name: "a header without a colon", headers: "nonsense\r\n", status: 400 },
    { name: "a NUL in the address", path: "/a\0b", status: 505 },
    { name: "300 headers", headers: Array.from({ length: 300 }, (_, i) => `X-${i}: y\r\n`).join(""), status: 431 },
    { name: "a header of 20 KB", headers: `X-A: ${"y".repeat(20_000)}\r\n`, status: 431 },
    { name: "an address of 20 KB", path: `/version?${"a".repeat(20_000)}`, status: 431 },
    { name: "a method that is not one of HTTP's", method: "FOO", status: 0 },
  ];
  test.each(scenarios)("$name: $status", async ({ status, ...request }) => {
    const answer = await send(request);
    expect(answer.status).toBe(status);
    // Nothing is said about what is running here, and nothing behind it is taken for a second request.
    expect(answer.body).toBe(answer.status === 0 ? answer.text : "");
    expect(answer.headers.server).toBeUndefined();
  });

  test.each([
    "\x16\x03\x01\x02\x00\x01\x00\x01",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
  ])("%j", async (bytes) => {
    const answer = await sendRaw(parley.url, bytes);
    expect([400, 505]).toContain(answer.status);
  });
});

/** A runtime that learns one of these makes docs/security.md ("Errors") wrong. */
describe("what the runtime drops", () => {
  const me = async () => {
    const { access_token } = await parley.register();
    return `Host: localhost\r\nAuthorization: Bearer ${access_token}\r\n`;
  };

  test("a request behind one that is still being answered: neither is answered", async () => {
    const headers = await me();
    const one = `GET /api/v1/me HTTP/1.1\r\n${headers}\r\n`;
    expect((await sendRaw(parley.url, one + one)).text).toBe("");
  });

  test("fields after the last chunk: they end the connection", async () => {
    const headers = `${await me()}${json}Transfer-Encoding: chunked\r\n`;
    const { text } = await sendRaw(
      parley.url,
      `POST /api/v1/conversations HTTP/1.1\r\n${headers}\r\n2\r\n{}\r\n0\r\nX-Thing: 1\r\n\r\n`,
    );
    expect(text).toContain("HTTP/1.1 400 Bad Request");
  });
});
