import { afterAll, expect, test } from "bun:test";
import type { Socket } from "bun";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import { createProviders } from "../../src/ai/providers/create-providers.ts";
import { RESEND_MS_MAX } from "../../src/lib/http-client/client.ts";
import { post, readAll, startRawServer, waitUntilReusable } from "./raw-server.ts";

const okResponse = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const IDLE_CONNECTIONS = 20;

const cleanups: (() => unknown)[] = [];
afterAll(() => {
  for (const cleanUp of cleanups) cleanUp();
});

/** Starts a server that responds to the first request of each connection, and calls a function for later ones. */
function startServerForFirstRequests(onLaterRequest: (socket: Socket) => void, response: string = okResponse) {
  const servedSockets = new WeakSet<Socket>();
  const server = startRawServer((socket) => {
    if (servedSockets.has(socket)) return onLaterRequest(socket);
    servedSockets.add(socket);
    socket.write(response);
  });
  cleanups.push(server.stop);
  return server;
}

/** Opens connections to the server and leaves them idle. */
async function openIdleConnections(url: string, count: number): Promise<void> {
  const responses = await Promise.all(Array.from({ length: count }, () => post(url)));
  await Promise.all(responses.map(readAll));
  await waitUntilReusable();
}

/** Sends a request. Returns its outcome, and the number of requests, resends and connections that it caused. */
async function sendAndCount(server: ReturnType<typeof startServerForFirstRequests>, signal: AbortSignal | null = null) {
  const requestsBefore = server.requests.length;
  const connectionsBefore = server.connections;
  let resends = 0;
  const onResend = () => {
    resends += 1;
  };
  const outcome = await post(server.url, "", { signal, onResend })
    .then(readAll)
    .then(
      ({ text, error }) => error ?? text,
      (error) => error.message,
    );
  const requests = server.requests.length - requestsBefore;
  return { outcome, requests, resends, connections: server.connections - connectionsBefore };
}

const waysToClose: [name: string, close: (socket: Socket) => void][] = [
  ["FIN", (socket) => void socket.end()],
  ["RST", (socket) => void socket.terminate()],
];
test.each(waysToClose)(
  "a request is resent once, on a new connection, if the server closes the reused one (%s)",
  async (_name, close) => {
    const server = startServerForFirstRequests(close);
    await openIdleConnections(server.url, IDLE_CONNECTIONS);
    expect(await sendAndCount(server)).toEqual({ outcome: "ok", requests: 2, resends: 1, connections: 1 });
  },
);

test("a request fails if resending it fails too, even if idle connections remain", async () => {
  let isClosing = false;
  const server = startRawServer((socket) => void (isClosing ? socket.end() : socket.write(okResponse)));
  cleanups.push(server.stop);
  await openIdleConnections(server.url, IDLE_CONNECTIONS);
  isClosing = true;
  const expected = { outcome: "connection lost", requests: 2, resends: 1, connections: 1 };
  expect(await sendAndCount(server)).toEqual(expected);
});

const respondAndClose = (text: string, ending: "end" | "terminate") => (socket: Socket) => {
  socket.write(text);
  socket[ending]();
};
const failures: [name: string, onLaterRequest: (socket: Socket) => void, outcome: RegExp][] = [
  ["closes the connection after one byte", respondAndClose("H", "end"), /lost/],
  ["closes the connection after an interim response", respondAndClose("HTTP/1.1 100 Continue\r\n\r\n", "end"), /lost/],
  [
    "closes the connection in the middle of the head",
    respondAndClose("HTTP/1.1 200 OK\r\nX: ", "terminate"),
    /broke|reset/,
  ],
  ["sends garbage", respondAndClose("nonsense\r\n\r\n", "end"), /status line/],
  ["closes the connection after a while", (socket) => void setTimeout(() => socket.end(), RESEND_MS_MAX + 100), /lost/],
];
test.each(failures)("a request isn't resent if the server %s", async (_name, onLaterRequest, outcome) => {
  const server = startServerForFirstRequests(onLaterRequest);
  await openIdleConnections(server.url, 2);
  const result = await sendAndCount(server);
  expect(result).toMatchObject({ requests: 1, resends: 0, connections: 0 });
  expect(result.outcome).toMatch(outcome);
});

test("a request isn't resent if the server closes a new connection", async () => {
  const server = startRawServer((socket) => void socket.end());
  cleanups.push(server.stop);
  expect(await sendAndCount(server)).toEqual({ outcome: "connection lost", requests: 1, resends: 0, connections: 1 });
});

test("an aborted request isn't resent", async () => {
  const controller = new AbortController();
  const server = startServerForFirstRequests((socket) => {
    controller.abort(new Error("stopped"));
    socket.end();
  });
  await openIdleConnections(server.url, 2);
  expect(await sendAndCount(server, controller.signal)).toMatchObject({ outcome: "stopped", requests: 1, resends: 0 });
});

test("every resent request is reported with the provider's name", async () => {
  const body = 'data: {"choices":[{"delta":{"content":"Hi."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';
  const responseHead = `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: ${body.length}\r\n\r\n`;
  const server = startServerForFirstRequests((socket) => void socket.end(), responseHead + body);
  const resends: string[] = [];
  const { providers } = createProviders(
    { COMPATIBLE_BASE_URL: server.url, AI_MODELS: ["compatible/one"] },
    async () => [],
    { onResend: (provider) => resends.push(provider) },
  );
  const provider = providers.get("compatible");
  if (!provider) throw new Error("no provider");
  for (let n = 0; n < 3; n += 1) {
    const end = await provider.stream(
      {
        model: "one",
        canThink: false,
        messages: [{ role: "user", content: "Hello?" }],
        partial: null,
        outputTokensMax: null,
        options: {},
        signal: new AbortController().signal,
        pause: new PauseSignal(),
      },
      () => {},
    );
    expect(end.type).toBe("finish");
    await waitUntilReusable();
  }
  // The second and third requests were first sent on a reused connection.
  expect({ resends, requests: server.requests.length }).toEqual({ resends: ["compatible", "compatible"], requests: 5 });
});
