import { afterEach, describe, expect, test } from "bun:test";
import { REJECTED_FRAMES_MAX } from "../../src/limits/frame-limit.ts";
import { startApp, type TestApp } from "../support/app.ts";
import type { Account } from "../support/client.ts";
import { createConversation } from "../support/conversation.ts";
import { createRestClient } from "../support/rest.ts";
import { openSocket, type TestSocket } from "../support/socket.ts";
import { advanceClock, resetClock } from "../support/test-clock.ts";

let parley: TestApp;
afterEach(() => {
  resetClock();
  return parley.stop();
});

const startParley = async (config: Record<string, string>) => {
  parley = await startApp({ config: { RATE_LIMIT_ENABLED: "true", ...config } });
};
const connectSocket = async ({ access_token: token }: Account) => {
  const socket = await openSocket(parley.url, { token });
  await socket.waitFor(({ type }) => type === "ready");
  return socket;
};
/** Sends `count` pings, and waits for the response to each. */
const sendPings = async (socket: TestSocket, count: number) => {
  const frameCountBefore = socket.frames.length;
  for (let n = 0; n < count; n += 1) socket.send({ type: "ping", id: `p${frameCountBefore}-${n}` });
  for (let n = 0; n < count; n += 1) await socket.waitFor(({ id }) => id === `p${frameCountBefore}-${n}`);
  const responses = socket.frames.slice(frameCountBefore);
  return {
    pongs: responses.filter(({ type }) => type === "pong").length,
    errors: responses.filter(({ type }) => type === "error"),
  };
};

describe("a socket's frames", () => {
  test("beyond the limit are rejected with rate_limited, and are not executed", async () => {
    await startParley({ RATE_LIMIT_SOCKET_FRAMES_PER_10S: "10" });
    const anna = await parley.register();
    const { id } = await createConversation(parley, anna);
    const socket = await connectSocket(anna);
    expect((await sendPings(socket, 10)).pongs).toBe(10);
    const response = await socket.request({
      type: "message.send",
      conversation_id: id,
      client_message_id: "m1",
      content: "Too much",
      reply: false,
    });
    expect(response).toMatchObject({ type: "error", code: "rate_limited", temporary: true });
    expect(response.retry_after_ms).toBeWithin(1, 10_001);
    const history = await createRestClient(parley, anna).get<{ data: unknown[] }>(`/conversations/${id}/messages`);
    expect(history.body.data).toEqual([]);
    expect(await (await parley.fetch("/metrics")).text()).toContain('parley_rate_limited_total{limit="frames"} 1');
    await socket.close();
  });

  test("are counted even if they violate the protocol", async () => {
    await startParley({ RATE_LIMIT_SOCKET_FRAMES_PER_10S: "3" });
    const socket = await connectSocket(await parley.register());
    for (const id of ["a", "b", "c", "d"]) socket.send({ type: "nonsense", id });
    await socket.waitFor(({ id }) => id === "d");
    expect(socket.list("error").map(({ code }) => code)).toEqual(["invalid", "invalid", "invalid", "rate_limited"]);
    await socket.close();
  });

  test("count as a tenth of a frame if they are typing indicators", async () => {
    await startParley({ RATE_LIMIT_SOCKET_FRAMES_PER_10S: "10" });
    const anna = await parley.register();
    const { id: conversation_id } = await createConversation(parley, anna);
    const socket = await connectSocket(anna);
    for (let n = 0; n < 90; n += 1) socket.send({ type: "typing.start", conversation_id });
    expect(await sendPings(socket, 2)).toMatchObject({ pongs: 1, errors: [{ code: "rate_limited" }] });
    await socket.close();
  });

  test("are accepted again when the window ends", async () => {
    await startParley({ RATE_LIMIT_SOCKET_FRAMES_PER_10S: "2" });
    const socket = await connectSocket(await parley.register());
    const { errors } = await sendPings(socket, 3);
    advanceClock(Number(errors[0]?.retry_after_ms));
    expect((await sendPings(socket, 1)).pongs).toBe(1);
    await socket.close();
  });

  test("cause the socket to close with 4005 if too many are rejected, and the user can reconnect", async () => {
    await startParley({ RATE_LIMIT_SOCKET_FRAMES_PER_10S: "10" });
    const anna = await parley.register();
    const socket = await connectSocket(anna);
    for (let n = 0; n < 10 + REJECTED_FRAMES_MAX; n += 1) socket.send({ type: "ping", id: `${n}` });
    await socket.waitFor(({ id }) => id === `${10 + REJECTED_FRAMES_MAX - 1}`);
    expect(socket.list("error")).toHaveLength(REJECTED_FRAMES_MAX);
    expect(socket.socket.readyState).toBe(WebSocket.OPEN);
    socket.send({ type: "ping" });
    expect(await socket.closed).toEqual({ code: 4005, reason: "too many frames" });
    const newSocket = await connectSocket(anna);
    expect((await sendPings(newSocket, 1)).pongs).toBe(1);
    await newSocket.close();
  });
});

describe("a user's frames", () => {
  test("are counted across all of the user's sockets, separately from other users", async () => {
    await startParley({ RATE_LIMIT_USER_FRAMES_PER_10S: "10" });
    const [anna, ben] = [await parley.register(), await parley.register()];
    const sockets = [await connectSocket(anna), await connectSocket(anna), await connectSocket(ben)] as const;
    expect((await sendPings(sockets[0], 6)).pongs).toBe(6);
    expect(await sendPings(sockets[1], 5)).toMatchObject({ pongs: 4, errors: [{ code: "rate_limited" }] });
    expect((await sendPings(sockets[2], 10)).pongs).toBe(10);
    await Promise.all(sockets.map((socket) => socket.close()));
  });
});

describe("a user's sockets", () => {
  test("beyond the limit are rejected with 429 at the upgrade, and closing a socket releases its slot", async () => {
    await startParley({ RATE_LIMIT_SOCKETS_PER_USER: "2" });
    const anna = await parley.register();
    const [firstSocket, secondSocket] = [await connectSocket(anna), await connectSocket(anna)];
    const requestUpgrade = () =>
      parley.fetch("/realtime", {
        token: anna.access_token,
        headers: {
          connection: "upgrade",
          upgrade: "websocket",
          "sec-websocket-key": btoa("0123456789abcdef"),
          "sec-websocket-version": "13",
        },
      });
    const rejectedUpgrade = await requestUpgrade();
    expect(rejectedUpgrade.status).toBe(429);
    expect(await rejectedUpgrade.json()).toMatchObject({ code: "rate_limited" });
    expect(Number(rejectedUpgrade.headers.get("retry-after"))).toBeGreaterThan(0);
    await firstSocket.close();
    await Bun.sleep(20);
    const thirdSocket = await connectSocket(anna);
    const otherUsersSocket = await connectSocket(await parley.register());
    await Promise.all([secondSocket, thirdSocket, otherUsersSocket].map((socket) => socket.close()));
  });

  test("beyond the limit are closed with 4504 if they authenticate only after the upgrade", async () => {
    await startParley({ RATE_LIMIT_SOCKETS_PER_USER: "1" });
    const anna = await parley.register();
    const firstSocket = await connectSocket(anna);
    const secondSocket = await openSocket(parley.url);
    secondSocket.send({ type: "auth", token: anna.access_token });
    expect((await secondSocket.closed).code).toBe(4504);
    expect(secondSocket.list("ready")).toEqual([]);
    await firstSocket.close();
    await Bun.sleep(20);
    await (await connectSocket(anna)).close();
  });
});
