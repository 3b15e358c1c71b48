import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { ProblemBody } from "../../src/http/problem-response.ts";
import { startApp, type TestApp } from "../support/app.ts";

let parley: TestApp;
let token: string;

beforeAll(async () => {
  parley = await startApp();
  token = (await parley.register()).access_token;
});
afterAll(() => parley.stop());

async function sendRequest(path: string, init: RequestInit & { duplex?: "half" }) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json", ...init.headers };
  const response = await fetch(`${parley.url}${path}`, { method: "POST", ...init, headers });
  return { response, problem: (await response.json()) as ProblemBody };
}

const conversationsPath = "/api/v1/conversations";
const loneSurrogateBody = String.raw`{"title":"\ud83d"}`;
const nulBody = String.raw`{"title":"a\u0000b"}`;

describe("a body", () => {
  const scenarios: {
    name: string;
    body: string | Uint8Array<ArrayBuffer>;
    headers?: Record<string, string>;
    status: number;
    code: string;
  }[] = [
    { name: "is not JSON", body: '{"title":', status: 400, code: "malformed" },
    { name: "is empty", body: "", status: 422, code: "invalid" },
    { name: "is not UTF-8", body: new Uint8Array([0x22, 0xc3, 0x28, 0x22]), status: 400, code: "malformed" },
    {
      name: "is nested 1,000 levels deep",
      body: "[".repeat(1_000) + "]".repeat(1_000),
      status: 400,
      code: "malformed",
    },
    {
      name: "has an unsupported content type",
      body: "title=a",
      headers: { "content-type": "text/plain" },
      status: 415,
      code: "unsupported_media_type",
    },
    { name: "has a field of an incorrect type", body: '{"title":1}', status: 422, code: "invalid" },
    { name: "is an array", body: "[]", status: 422, code: "invalid" },
    { name: "is null", body: "null", status: 422, code: "invalid" },
    { name: "has an unknown field", body: '{"titel":"a"}', status: 422, code: "invalid" },
    { name: "contains a NUL", body: nulBody, status: 422, code: "invalid" },
    { name: "contains a lone surrogate", body: loneSurrogateBody, status: 422, code: "invalid" },
    { name: "is 10 MB long", body: "x".repeat(10_000_000), status: 413, code: "too_large" },
  ];
  test.each(scenarios)("that $name is rejected", async ({ body, headers, status, code }) => {
    const { response, problem } = await sendRequest(conversationsPath, { body, headers });
    expect(response.status).toBe(status);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(problem).toMatchObject({ status, code, type: `/problems/${code}` });
    expect(problem.request_id).toBe(response.headers.get("x-request-id") ?? "none");
    expect(problem.instance).toBe(`urn:request:${problem.request_id}`);
  });

  test("that is 10 MB long and has no Content-Length is rejected", async () => {
    const chunk = new Uint8Array(100_000).fill(0x20);
    let chunks = 0;
    const body = new ReadableStream({
      pull(controller) {
        chunks += 1;
        if (chunks > 100) controller.close();
        else controller.enqueue(chunk);
      },
    });
    const { response, problem } = await sendRequest(conversationsPath, { body, duplex: "half" });
    expect(response.status).toBe(413);
    expect(problem.code).toBe("too_large");
  });

  test("isn't stored if it is rejected", async () => {
    const response = await parley.fetch(conversationsPath, { token });
    expect(await response.json()).toEqual({ data: [], next_cursor: null });
  });
});

describe("the location of an invalid value", () => {
  test("is a JSON pointer if the value is in the body", async () => {
    const { problem } = await sendRequest(conversationsPath, { body: '{"title":1,"kind":"secret"}' });
    expect(problem.errors?.map(({ pointer }) => pointer).sort()).toEqual(["#/kind", "#/title"]);
    expect(problem.errors?.find(({ pointer }) => pointer === "#/title")?.detail).toBe("title must be text.");
  });

  test("is the parameter's name if the value is in the path", async () => {
    const response = await parley.fetch(`${conversationsPath}/42`, { token });
    expect(response.status).toBe(422);
    const problem = (await response.json()) as ProblemBody;
    expect(problem.errors).toEqual([{ pointer: "#/params/id", detail: "id must be a UUID." }]);
  });

  test.each(["0", "-1", "1.5", "x", "1e3", "99999999999999999999"])(
    "is the parameter's name if the query is ?limit=%s",
    async (limit) => {
      const response = await parley.fetch(`${conversationsPath}?limit=${limit}`, { token });
      expect(response.status).toBe(422);
      const problem = (await response.json()) as ProblemBody;
      expect(problem.errors?.[0]?.pointer).toBe("#/query/limit");
    },
  );
});

test("a limit above the maximum is lowered to the maximum", async () => {
  const response = await parley.fetch(`${conversationsPath}?limit=100000`, { token });
  expect(response.status).toBe(200);
});

test("an invalid cursor is rejected", async () => {
  const response = await parley.fetch(`${conversationsPath}?cursor=bm9uc2Vuc2U`, { token });
  expect(response.status).toBe(400);
  expect(((await response.json()) as ProblemBody).code).toBe("bad_cursor");
});

describe("a request", () => {
  test("returns 404 if its path doesn't exist", async () => {
    const response = await parley.fetch("/api/v1/nothing", { token });
    expect(response.status).toBe(404);
    expect(((await response.json()) as ProblemBody).code).toBe("not_found");
  });

  test("returns 405 with the allowed methods if its method isn't supported", async () => {
    const response = await parley.fetch(conversationsPath, { token, method: "DELETE" });
    expect(response.status).toBe(405);
    expect(response.headers.get("allow")).toBe("GET, HEAD, POST");
    expect(((await response.json()) as ProblemBody).code).toBe("method_not_allowed");
  });

  test.each([
    "/%",
    "/%ff",
    "/api/v1/conversations/%00",
    "/api/v1/documents/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "//",
    "/problems/__proto__",
  ])("is rejected without a server error if its path is %s", async (path) => {
    const response = await parley.fetch(path, { token });
    expect(response.status).toBeGreaterThanOrEqual(400);
    expect(response.status).toBeLessThan(500);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
  });

  test("receives a response without a body if its method is HEAD", async () => {
    const response = await parley.fetch(conversationsPath, { token, method: "HEAD" });
    expect(response.status).toBe(200);
    expect(await response.text()).toBe("");
  });
});

test("the server is still ready after the invalid requests", async () => {
  expect((await parley.fetch("/readyz")).status).toBe(200);
});
