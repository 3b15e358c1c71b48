import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { takeViolations } from "../support/conformance/violations.ts";
import { createTestEvent } from "../support/events.ts";

/** A server that sends what a test says, with the headers by which a Parley is recognised. */
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

let next: () => Response;
let pushes: string[] = [];
let close: [number, string] = [1000, ""];
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, bun) {
    if (request.headers.has("upgrade") && bun.upgrade(request)) return undefined;
    return next();
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

beforeAll(() => takeViolations());
beforeEach(() => {
  pushes = [];
  close = [1000, ""];
});
afterAll(() => server.stop(true));

/** What the checks say of a response; the body is what the caller still gets. */
async function askFor(path: string, response: Response, init?: RequestInit) {
  next = () => response;
  const answer = await fetch(`${url}${path}`, init);
  const text = await answer.text();
  return { text, url: answer.url, status: answer.status, violations: takeViolations() };
}

const json = (body: unknown, status = 200, type = "application/json") =>
  new Response(JSON.stringify(body), { status, headers: { ...headers, "content-type": type } });
const members = `/api/v1/conversations/${id}/members`;

describe("a response", () => {
  test("that is as the document says violates nothing, and reaches the caller unchanged", async () => {
    const body = { ...page, data: [member] };
    const { text, violations, status, url: asked } = await askFor(members, json(body));
    expect({ violations, status, asked, body: JSON.parse(text) }).toEqual({
      violations: [],
      status: 200,
      asked: `${url}${members}`,
      body,
    });
  });

  const wrong: [string, string, () => Response, RequestInit | undefined, RegExp][] = [
    ["an undocumented field", members, () => json({ ...page, secret: 1 }), undefined, /listMembers.*: \/secret is not/],
    [
      "an undocumented field deep inside",
      members,
      () => json({ ...page, data: [{ ...member, email: "a@example.com" }] }),
      undefined,
      /\/data\/0\/email is not documented/,
    ],
    ["a missing field", members, () => json({ data: [] }), undefined, /\/next_cursor is missing/],
    ["a wrong type", members, () => json({ ...page, next_cursor: 1 }), undefined, /\/next_cursor must be/],
    [
      "null where there must be a value",
      members,
      () => json({ ...page, data: [{ ...member, role: null }] }),
      undefined,
      /\/data\/0\/role must be/,
    ],
    ["an undocumented status", members, () => json(problem, 418), undefined, /418.*the status is not documented/],
    ["a wrong content type", members, () => json(page, 200, "text/plain"), undefined, /types are application\/json/],
    ["an error that is no problem", members, () => json(page, 403), undefined, /types are application\/problem\+json/],
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
      /it should be 405/,
    ],
    ["a body that is not JSON", members, () => new Response("{", json(page)), undefined, /the body is not JSON/],
  ];
  test.each(wrong)("with %s is a violation", async (_, path, create, init, expected) => {
    const { violations } = await askFor(path, create(), init);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatch(expected);
  });

  test("of another server is none of ours", async () => {
    expect((await askFor(members, Response.json({ secret: 1 }))).violations).toEqual([]);
  });

  test("of unknown length is checked when it is read", async () => {
    // What is whole at once gets a length.
    const body = async function* () {
      yield '{"data":[],"next_cursor":null,';
      await Bun.sleep(1);
      yield '"secret":1}';
    };
    next = () => new Response(body() as never, { headers: { ...headers, "content-type": "application/json" } });
    const response = await fetch(`${url}${members}`);
    expect(takeViolations()).toEqual([]);
    expect(await response.json()).toEqual({ ...page, secret: 1 });
    expect(takeViolations()).toEqual([expect.stringContaining("/secret is not documented")]);
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
    const good = `: connected\n\n${format(event)}`;
    expect(await askFor(path, stream(good))).toMatchObject({ violations: [], text: good });
    const { violations } = await askFor(path, stream(format({ ...event, secret: 1 } as never)));
    expect(violations).toEqual([expect.stringContaining("/secret is not documented")]);
    expect((await askFor(path, stream(good.replace("id: 7", "id: 8")))).violations).toHaveLength(1);
    expect((await askFor(path, stream("data: 1\n\n"))).violations).toHaveLength(1);
  });
});

test("a stream of OpenAI's API is checked event by event", async () => {
  const ask = (...data: string[]) =>
    askFor(
      "/v1/chat/completions",
      new Response(`: connected\n\n${data.map((one) => `data: ${one}\n\n`).join("")}`, {
        headers: { ...headers, "content-type": "text/event-stream" },
      }),
      { method: "POST" },
    );
  const choice = { index: 0, delta: { content: "Hi" }, logprobs: null, finish_reason: null };
  const chunk = { id: "1", object: "chat.completion.chunk", created: 1, model: "a/b", choices: [choice] };
  expect((await ask(JSON.stringify(chunk), "[DONE]")).violations).toEqual([]);
  expect((await ask(JSON.stringify({ ...chunk, secret: 1 }))).violations).toHaveLength(1);
  expect(
    (await ask(JSON.stringify({ ...chunk, choices: [{ ...choice, delta: { text: "" } }] }))).violations,
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
    return takeViolations();
  }
  const event = createTestEvent(id, 7, "message.deleted");

  test("is checked frame by frame, acks by the frames that they answer, and so is its close code", async () => {
    expect(await connect([event])).toEqual([]);
    expect(await connect([{ ...event, secret: 1 }])).toEqual([expect.stringContaining("/secret is not documented")]);
    expect(await connect([{ type: "shout" }])).toEqual([expect.stringContaining("The server sends no shout.")]);
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
