import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { AUTH_TIMEOUT_MS } from "../../src/modules/socket/limits.ts";
import { FRAME_BYTES_MAX } from "../../src/protocol/frames.ts";
import { type Account, startApp, type TestApp } from "../support/app.ts";
import { createConversation } from "../support/conversation.ts";
import { openSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";

let parley: TestApp;
let anna: Account;
let ben: Account;

beforeAll(async () => {
  parley = await startApp({ config: { CORS_ORIGINS: "https://app.example.com" } });
  [anna, ben] = await Promise.all([parley.register(undefined, "Anna"), parley.register()]);
});
afterEach(resetClock);
afterAll(() => parley.stop());

const handshake = {
  connection: "Upgrade",
  upgrade: "websocket",
  "sec-websocket-version": "13",
  "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
};
const tryUpgrade = (headers: Record<string, string>, query = "") =>
  parley.fetch(`/realtime${query}`, { headers: { ...handshake, ...headers } });
const createBearerProtocol = (token: string) => `base64url.bearer.${Buffer.from(token).toString("base64url")}`;

describe("a socket's credentials", () => {
  test("can be in the header, subprotocol, ticket or first frame, and only parley.v1 is echoed", async () => {
    const byHeader = await openSocket(parley.url, { token: anna.access_token });
    const byProtocol = await openSocket(parley.url, {
      protocols: ["parley.v1", createBearerProtocol(anna.access_token)],
    });
    const byReorderedProtocol = await openSocket(parley.url, {
      protocols: [createBearerProtocol(anna.access_token), "parley.v1"],
    });
    const ticketResponse = await parley.fetch("/api/v1/auth/ticket", { method: "POST", token: anna.access_token });
    const { ticket } = (await ticketResponse.json()) as { ticket: string };
    const byTicket = await openSocket(parley.url, { query: `?ticket=${ticket}` });
    const byFrame = await openSocket(parley.url);
    expect(await byFrame.request({ type: "auth", token: anna.access_token })).toMatchObject({ type: "ack" });
    for (const socket of [byHeader, byProtocol, byReorderedProtocol, byTicket, byFrame]) {
      const ready = await socket.waitFor((frame) => frame.type === "ready");
      expect(socket.frames[0]).toBe(ready);
      expect(ready.user).toEqual(anna.user);
      expect(ready.heartbeat_ms).toBeGreaterThan(0);
      expect(socket.socket.protocol).toBe("parley.v1");
      await socket.close();
    }
    expect((await tryUpgrade({}, `?ticket=${ticket}`)).status).toBe(401);
  });

  test("that are invalid or from a disallowed origin are rejected before the upgrade", async () => {
    expect((await tryUpgrade({ authorization: "Bearer nonsense" })).status).toBe(401);
    expect((await tryUpgrade({ "sec-websocket-protocol": `parley.v1, ${createBearerProtocol("x")}` })).status).toBe(
      401,
    );
    expect((await tryUpgrade({}, "?ticket=nonsense")).status).toBe(401);
    const authorization = `Bearer ${anna.access_token}`;
    expect((await tryUpgrade({ authorization, origin: "https://evil.example.com" })).status).toBe(403);
    expect((await tryUpgrade({ authorization, origin: "null" })).status).toBe(403);
    expect((await tryUpgrade({ authorization, origin: "https://app.example.com" })).status).toBe(101);
    expect((await parley.fetch("/realtime", { token: anna.access_token })).status).toBe(400);
  });

  test("close the socket with 4501 if the first frame has an invalid token", async () => {
    const socket = await openSocket(parley.url);
    socket.send({ type: "auth", id: "a", token: "nonsense" });
    expect((await socket.closed).code).toBe(4501);
  });

  test("are required before other frames, and the connection closes with 4502 if they never arrive", async () => {
    const socket = await openSocket(parley.url);
    expect(await socket.request({ type: "ping" })).toMatchObject({
      type: "error",
      code: "unauthorized",
      temporary: false,
    });
    const { id } = await createConversation(parley, anna);
    expect(await socket.request({ type: "subscribe", conversation_id: id })).toMatchObject({ code: "unauthorized" });
    advanceClock(AUTH_TIMEOUT_MS);
    expect((await socket.closed).code).toBe(4502);
  });

  test("can be renewed with auth on an open connection, but not for another user", async () => {
    const socket = await openSocket(parley.url, { token: anna.access_token });
    expect(await socket.request({ type: "auth", token: anna.access_token })).toMatchObject({ type: "ack" });
    expect(await socket.request({ type: "auth", token: ben.access_token })).toMatchObject({ code: "forbidden" });
    expect(await socket.request({ type: "auth", token: "nonsense" })).toMatchObject({ code: "unauthorized" });
    socket.send({ type: "ping", id: "still here" });
    await socket.waitFor((frame) => frame.type === "pong" && frame.id === "still here");
    await socket.close();
  });

  test("become invalid when their session is revoked, which closes only that session's sockets with 4506", async () => {
    const carl = await parley.register();
    const login = await parley.fetch("/api/v1/auth/login", {
      json: { email: carl.user.email, password: "correct horse battery" },
    });
    const otherSession = (await login.json()) as Account;
    const socket = await openSocket(parley.url, { token: carl.access_token });
    const otherSocket = await openSocket(parley.url, { token: otherSession.access_token });
    await parley.fetch("/api/v1/auth/logout", { json: { refresh_token: carl.refresh_token } });
    expect((await socket.closed).code).toBe(4506);
    otherSocket.send({ type: "ping", id: "alive" });
    await otherSocket.waitFor((frame) => frame.type === "pong");
    // Revokes the session only in the database, as another instance would.
    await parley.database`update sessions set revoked_at = now(), revoked_reason = 'ended' where user_id = ${carl.user.id}`;
    const startedAtMs = performance.now();
    expect((await otherSocket.closed).code).toBe(4506);
    expect(performance.now() - startedAtMs).toBeLessThan(2_500);
  });
});

describe("on an open connection", () => {
  const invalidFrames: [string, string, string][] = [
    ["invalid JSON", "{", "malformed"],
    ["a number", "12", "malformed"],
    ["an array", "[]", "malformed"],
    ["a missing type", '{"id":"1"}', "invalid"],
    ["an unknown type", '{"id":"1","type":"shout"}', "invalid"],
    ["a type named like a prototype property", '{"id":"1","type":"constructor"}', "invalid"],
    ["an id that is not a string", '{"id":1,"type":"unsubscribe"}', "invalid"],
    ["an oversized id", `{"id":"${"x".repeat(65)}","type":"ping"}`, "invalid"],
    ["an invalid UUID", '{"id":"1","type":"subscribe","conversation_id":"nope"}', "invalid"],
    ["an unknown field", '{"id":"1","type":"ping","really":true}', "invalid"],
    [
      "a NUL character",
      '{"id":"1","type":"message.edit","message_id":"0190e6f0-0000-7000-8000-000000000000","content":"a\\u0000"}',
      "invalid",
    ],
    ["a lone surrogate", '{"id":"1","type":"auth","token":"\\ud800"}', "invalid"],
    ["deep nesting", `{"id":"1","type":"ping","x":${"[".repeat(40)}${"]".repeat(40)}}`, "malformed"],
    [
      "empty content",
      '{"id":"1","type":"message.edit","message_id":"0190e6f0-0000-7000-8000-000000000000","content":""}',
      "invalid",
    ],
    [
      "a negative seq",
      '{"id":"1","type":"read","conversation_id":"0190e6f0-0000-7000-8000-000000000000","seq":-1}',
      "invalid",
    ],
    ["an oversized frame", `{"id":"1","type":"ping","x":"${"x".repeat(FRAME_BYTES_MAX)}"}`, "too_large"],
  ];

  test.each(invalidFrames)("%s returns an error frame, and the connection stays open", async (_name, text, code) => {
    const socket = await openSocket(parley.url, { token: anna.access_token });
    socket.send(text);
    const error = await socket.waitFor((frame) => frame.type === "error");
    // If the frame has an id, its sender waits for a response with that id.
    expect(error).toMatchObject({ code, temporary: false, id: text.startsWith('{"id":"1"') ? "1" : null });
    expect(typeof error.detail).toBe("string");
    socket.send({ type: "ping", id: "after" });
    await socket.waitFor((frame) => frame.type === "pong" && frame.id === "after");
    await socket.close();
  });

  test("a binary frame returns an error", async () => {
    const socket = await openSocket(parley.url, { token: anna.access_token });
    socket.socket.send(new Uint8Array([1, 2, 3]));
    expect(await socket.waitFor((frame) => frame.type === "error")).toMatchObject({ code: "malformed", id: null });
    socket.send({ type: "ping" });
    await socket.waitFor((frame) => frame.type === "pong");
    await socket.close();
  });

  test("too many invalid frames close the connection with 4507", async () => {
    const socket = await openSocket(parley.url, { token: anna.access_token });
    for (let n = 0; n < 300; n += 1) socket.send("nonsense");
    expect((await socket.closed).code).toBe(4507);
  });

  test("subscribing with a future after_seq recovers nothing", async () => {
    const { id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    const ack = await socket.request({ type: "subscribe", conversation_id: id, after_seq: 1_000 });
    expect(ack).toMatchObject({ type: "ack", recovered: false, events: [], last_seq: 0 });
    await socket.close();
  });

  test("if more than 500 events were missed, none of them are replayed", async () => {
    const { id } = await createConversation(parley, anna);
    const socket = await openSocket(parley.url, { token: anna.access_token });
    for (let n = 1; n <= 501; n += 1)
      socket.send({ type: "message.send", id: `m${n}`, conversation_id: id, content: "x", client_message_id: `m${n}` });
    await socket.waitFor((frame) => frame.id === "m501");
    expect(await socket.request({ type: "subscribe", conversation_id: id, after_seq: 0 })).toMatchObject({
      recovered: false,
      events: [],
      last_seq: 501,
    });
    const ack = await socket.request({ type: "subscribe", conversation_id: id, after_seq: 1 });
    expect(ack.recovered).toBe(true);
    expect((ack.events as { seq: number }[]).map(({ seq }) => seq)).toEqual(
      Array.from({ length: 500 }, (_, n) => n + 2),
    );
    await socket.close();
  });

  test("a client that does not read is disconnected without delaying other clients", async () => {
    const { id } = await createConversation(parley, anna, [ben]);
    const writer = await openSocket(parley.url, { token: anna.access_token });
    const stuckClient = await openStuckClient(ben.access_token, id);
    const content = "x".repeat(60_000);
    for (let n = 0; n < 300; n += 1) {
      writer.send({ type: "message.send", id: `b${n}`, conversation_id: id, content, client_message_id: `b${n}` });
      if (n % 20 === 19) await writer.waitFor((frame) => frame.id === `b${n}`);
    }
    await stuckClient.waitUntilDisconnected();
    await writer.close();
  }, 60_000);
});

/** Opens a raw TCP client that subscribes and then stops reading. */
async function openStuckClient(
  token: string,
  conversationId: string,
): Promise<{ waitUntilDisconnected(): Promise<void> }> {
  const { connect } = await import("node:net");
  const { port, hostname } = new URL(parley.url);
  const socket = connect(Number(port), hostname);
  const lines = [
    "GET /realtime HTTP/1.1",
    `Host: ${hostname}:${port}`,
    ...Object.entries(handshake).map(([name, value]) => `${name}: ${value}`),
    `Authorization: Bearer ${token}`,
  ];
  const { promise: subscribed, resolve } = Promise.withResolvers<void>();
  let received = "";
  socket.on("data", (bytes) => {
    received += bytes.toString("latin1");
    if (received.includes('"ack"')) {
      socket.pause();
      resolve();
    }
  });
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  await Bun.sleep(200);
  const payload = Buffer.from(JSON.stringify({ type: "subscribe", id: "s", conversation_id: conversationId }));
  const mask = Buffer.from([1, 2, 3, 4]);
  const masked = payload.map((byte, index) => byte ^ (mask[index % 4] ?? 0));
  socket.write(
    Buffer.concat([Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 255]), mask, masked]),
  );
  await subscribed;
  return {
    /** Waits until only the sender's connection is open. */
    async waitUntilDisconnected() {
      const readConnectionCount = () => parley.metrics.registry.getSingleMetricAsString("parley_ws_connections");
      while (!/parley_ws_connections 1\b/.test(await readConnectionCount())) await Bun.sleep(100);
      socket.destroy();
    },
  };
}
