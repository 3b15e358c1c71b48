import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { drainViolations } from "../support/conformance/violations.ts";
import { createTestEvent } from "../support/test-events.ts";

/** Headers by which the checks recognize a response from Parley. */
const headers = {
  "x-request-id": "1",
  "permissions-policy": "camera=()",
  "cross-origin-opener-policy": "same-origin",
};
const id = "0190e6f0-0000-7000-8000-000000000000";
const page = { data: [], next_cursor: null };
const member = { user_id: id, display_name: "Ada", role: "owner", last_read_seq: 0, joined_at: "2026-01-01T00:00:00Z" };
const problem = {
  type: "/problems/forbidden",
  title: "Forbidden",
  status: 403,
  detail: "No.",
  instance: "urn:request:1",
  code: "forbidden",
  request_id: "1",
};

let createResponse: () => Response;
let pushes: string[] = [];
let close: [number, string] = [1000, ""];
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, bun) {
    if (request.headers.has("upgrade") && bun.upgrade(request)) return undefined;
    return createResponse();
  },
  websocket: {
    open(socket) {
      for (const push of pushes) socket.send(push);
    },
    message(socket, text) {
      const { id } = JSON.parse(String(text)) as { id: string };
      socket.send(JSON.stringify({ type: "ack", id }));
      socket.close(...close);
    },
  },
});
const url = `http://127.0.0.1:${server.port}`;

beforeAll(() => drainViolations());
beforeEach(() => {
  pushes = [];
  close = [1000, ""];
});
afterAll(() => server.stop(true));

/** Fetches a response from the test server. Returns what the caller gets, and the violations that the checks found. */
async function fetchChecked(path: string, response: Response, init?: RequestInit) {
  createResponse = () => response;
  const received = await fetch(`${url}${path}`, init);
  const text = await received.text();
  return { text, url: received.url, status: received.status, violations: drainViolations() };
}

const json = (body: unknown, status = 200, type = "application/json") =>
  new Response(JSON.stringify(body), { status, headers: { ...headers, "content-type": type } });
const members = `/api/v1/conversations/${id}/members`;

describe("a response", () => {
  test("that matches the contract has no violations, and reaches the caller unchanged", async () => {
    const body = { ...page, data: [member] };
    const { text, violations, status, url: requestedUrl } = await fetchChecked(members, json(body));
    expect({ violations, status, requestedUrl, body: JSON.parse(text) }).toEqual({
      violations: [],
      status: 200,
      requestedUrl: `${url}${members}`,
      body,
    });
  });

  const violating: [string, string, () => Response, RequestInit | undefined, RegExp][] = [
    ["an undocumented field", members, () => json({ ...page, secret: 1 }), undefined, /listMembers.*: \/secret is not/],
    [
      "a nested undocumented field",
      members,
      () => json({ ...page, data: [{ ...member, email: "a@example.com" }] }),
      undefined,
      /\/data\/0\/email is not documented/,
    ],
    ["a missing field", members, () => json({ data: [] }), undefined, /\/next_cursor is missing/],
    ["a field of the wrong type", members, () => json({ ...page, next_cursor: 1 }), undefined, /\/next_cursor must be/],
    [
      "null for a required value",
      members,
      () => json({ ...page, data: [{ ...member, role: null }] }),
      undefined,
      /\/data\/0\/role must be/,
    ],
    ["an undocumented status", members, () => json(problem, 418), undefined, /418.*the status is not documented/],
    ["a wrong content type", members, () => json(page, 200, "text/plain"), undefined, /types are application\/json/],
    [
      "an error that isn't a problem document",
      members,
      () => json(page, 403),
      undefined,
      /types are application\/problem\+json/,
    ],
    [
      "a problem with an undocumented field",
      members,
      () => json({ ...problem, stack: "…" }, 403, "application/problem+json"),
      undefined,
      /\/stack is not documented/,
    ],
    ["an undocumented path", "/api/v1/secrets", () => json({}), undefined, /is not in contract\/openapi\.json/],
    [
      "an undocumented method",
      members,
      () => json(problem, 404, "application/problem+json"),
      { method: "PUT" },
      /the status should be 405/,
    ],
    ["a body that is not JSON", members, () => new Response("{", json(page)), undefined, /the body is not JSON/],
  ];
  test.each(violating)("with %s is a violation", async (_, path, create, init, expected) => {
    const { violations } = await fetchChecked(path, create(), init);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatch(expected);
  });

  test("from another server isn't checked", async () => {
    expect((await fetchChecked(members, Response.json({ secret: 1 }))).violations).toEqual([]);
  });

  test("of unknown length is checked when it is read", async () => {
    // A body that is available immediately would have a known length.
    const body = async function* () {
      yield '{"data":[],"next_cursor":null,';
      await Bun.sleep(1);
      yield '"secret":1}';
    };
    createResponse = () =>
      new Response(body() as never, { headers: { ...headers, "content-type": "application/json" } });
    const response = await fetch(`${url}${members}`);
    expect(drainViolations()).toEqual([]);
    expect(await response.json()).toEqual({ ...page, secret: 1 });
    expect(drainViolations()).toEqual([expect.stringContaining("/secret is not documented")]);
  });
});

describe("an event stream", () => {
  const format = (event: object & { type: string; seq?: number }) =>
    `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
  const stream = (text: string) =>
    new Response(text, { headers: { ...headers, "content-type": "text/event-stream; charset=utf-8" } });
  const path = `/api/v1/conversations/${id}/events`;

  test("is checked event by event", async () => {
    const event = createTestEvent(id, 7, "message.deleted");
    const valid = `: connected\n\n${format(event)}`;
    expect(await fetchChecked(path, stream(valid))).toMatchObject({ violations: [], text: valid });
    const { violations } = await fetchChecked(path, stream(format({ ...event, secret: 1 } as never)));
    expect(violations).toEqual([expect.stringContaining("/secret is not documented")]);
    expect((await fetchChecked(path, stream(valid.replace("id: 7", "id: 8")))).violations).toHaveLength(1);
    expect((await fetchChecked(path, stream("data: 1\n\n"))).violations).toHaveLength(1);
  });
});

test("a stream from the OpenAI API is checked event by event", async () => {
  const fetchStream = (...data: string[]) =>
    fetchChecked(
      "/v1/chat/completions",
      new Response(`: connected\n\n${data.map((item) => `data: ${item}\n\n`).join("")}`, {
        headers: { ...headers, "content-type": "text/event-stream" },
      }),
      { method: "POST" },
    );
  const choice = { index: 0, delta: { content: "Hi" }, logprobs: null, finish_reason: null };
  const chunk = { id: "1", object: "chat.completion.chunk", created: 1, model: "a/b", choices: [choice] };
  expect((await fetchStream(JSON.stringify(chunk), "[DONE]")).violations).toEqual([]);
  expect((await fetchStream(JSON.stringify({ ...chunk, secret: 1 }))).violations).toHaveLength(1);
  expect(
    (await fetchStream(JSON.stringify({ ...chunk, choices: [{ ...choice, delta: { text: "" } }] }))).violations,
  ).toHaveLength(1);
});

describe("a socket", () => {
  async function connect(push: object[], frame: object = { type: "unsubscribe", id: "1" }) {
    pushes = push.map((one) => JSON.stringify(one));
    const socket = new WebSocket(`${url.replace("http", "ws")}/realtime`);
    await new Promise((resolve) => {
      socket.onopen = resolve;
    });
    socket.send(JSON.stringify(frame));
    await new Promise((resolve) => {
      socket.onclose = resolve;
    });
    return drainViolations();
  }
  const event = createTestEvent(id, 7, "message.deleted");

  test("is checked frame by frame, including its close code", async () => {
    expect(await connect([event])).toEqual([]);
    expect(await connect([{ ...event, secret: 1 }])).toEqual([expect.stringContaining("/secret is not documented")]);
    expect(await connect([{ type: "shout" }])).toEqual([
      expect.stringContaining("The message shout is not in contract/asyncapi.json (realtime)."),
    ]);
    expect(await connect([], { type: "read", id: "1" })).toEqual([
      expect.stringContaining("/last_read_seq is missing"),
    ]);
    close = [4501, "the credential is not valid"];
    expect(await connect([])).toEqual([]);
    close = [4999, "because"];
    expect(await connect([])).toEqual([expect.stringContaining("The close code 4999 (because)")]);
    close = [4501, "because"];
    expect(await connect([])).toEqual([expect.stringContaining('not "because"')]);
  });
});
