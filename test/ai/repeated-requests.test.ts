import { afterAll, expect, test } from "bun:test";
import type { Socket } from "bun";
import { PauseSignal } from "../../src/ai/pause-signal.ts";
import { createProviders } from "../../src/ai/providers/create-providers.ts";
import { RESEND_MS_MAX } from "../../src/lib/http-client/client.ts";
import { ask, readAll, serveBytes, untilReusable } from "./raw-server.ts";

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const KEPT_CONNECTIONS = 20;

const stops: (() => unknown)[] = [];
afterAll(() => {
  for (const stop of stops) stop();
});

/** A server that answers the first request of each connection, and handles later ones with this function. */
function serveOnce(later: (socket: Socket) => void, answer: string = ok) {
  const served = new WeakSet<Socket>();
  const server = serveBytes((socket) => {
    if (served.has(socket)) return later(socket);
    served.add(socket);
    socket.write(answer);
  });
  stops.push(server.stop);
  return server;
}

/** Leaves this many idle connections to the server. */
async function keepConnections(url: string, count: number): Promise<void> {
  const responses = await Promise.all(Array.from({ length: count }, () => ask(url)));
  await Promise.all(responses.map(readAll));
  await untilReusable();
}

/** Sends a request; returns its result, how many requests arrived for it, and how many repeats were reported. */
async function sendOnce(server: ReturnType<typeof serveOnce>, signal: AbortSignal | null = null) {
  const before = server.requests.length;
  const connectionsBefore = server.connections;
  let repeats = 0;
  const onRepeat = () => {
    repeats += 1;
  };
  const outcome = await ask(server.url, "", { signal, onRepeat })
    .then(readAll)
    .then(
      ({ text, error }) => error ?? text,
      (error) => error.message,
    );
  const requests = server.requests.length - before;
  return { outcome, requests, repeats, connections: server.connections - connectionsBefore };
}

const closings: [name: string, close: (socket: Socket) => void][] = [
  ["FIN", (socket) => void socket.end()],
  ["RST", (socket) => void socket.terminate()],
];
test.each(closings)(
  "a reused connection that the server closes immediately (%s): one repeat, on a new connection",
  async (_name, close) => {
    const server = serveOnce(close);
    await keepConnections(server.url, KEPT_CONNECTIONS);
    expect(await sendOnce(server)).toEqual({ outcome: "ok", requests: 2, repeats: 1, connections: 1 });
  },
);

test("a repeat that the server closes too is a failure, however many idle connections remain", async () => {
  let isClosing = false;
  const server = serveBytes((socket) => void (isClosing ? socket.end() : socket.write(ok)));
  stops.push(server.stop);
  await keepConnections(server.url, KEPT_CONNECTIONS);
  isClosing = true;
  const expected = { outcome: "connection lost", requests: 2, repeats: 1, connections: 1 };
  expect(await sendOnce(server)).toEqual(expected);
});

const respond = (text: string, ending: "end" | "terminate") => (socket: Socket) => {
  socket.write(text);
  socket[ending]();
};
const failures: [name: string, later: (socket: Socket) => void, outcome: RegExp][] = [
  ["closes after a byte", respond("H", "end"), /lost/],
  ["closes after an interim response", respond("HTTP/1.1 100 Continue\r\n\r\n", "end"), /lost/],
  ["closes in the head", respond("HTTP/1.1 200 OK\r\nX: ", "terminate"), /broke|reset/],
  ["sends garbage", respond("nonsense\r\n\r\n", "end"), /status line/],
  ["closes late", (socket) => void setTimeout(() => socket.end(), RESEND_MS_MAX + 100), /lost/],
];
test.each(failures)("a server that %s gets no second request", async (_name, later, outcome) => {
  const server = serveOnce(later);
  await keepConnections(server.url, 2);
  const result = await sendOnce(server);
  expect(result).toMatchObject({ requests: 1, repeats: 0, connections: 0 });
  expect(result.outcome).toMatch(outcome);
});

test("a new connection that the server closes is not a stale one", async () => {
  const server = serveBytes((socket) => void socket.end());
  stops.push(server.stop);
  expect(await sendOnce(server)).toEqual({ outcome: "connection lost", requests: 1, repeats: 0, connections: 1 });
});

test("an aborted request isn't sent again", async () => {
  const stopping = new AbortController();
  const server = serveOnce((socket) => {
    stopping.abort(new Error("stopped"));
    socket.end();
  });
  await keepConnections(server.url, 2);
  expect(await sendOnce(server, stopping.signal)).toMatchObject({ outcome: "stopped", requests: 1, repeats: 0 });
});

test("every repeat is reported, with the provider's name", async () => {
  const body = 'data: {"choices":[{"delta":{"content":"Hi."},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n';
  const head = `HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: ${body.length}\r\n\r\n`;
  const server = serveOnce((socket) => void socket.end(), head + body);
  const repeats: string[] = [];
  const { providers } = createProviders(
    { COMPATIBLE_BASE_URL: server.url, AI_MODELS: ["compatible/one"] },
    async () => [],
    { onRepeat: (provider) => repeats.push(provider) },
  );
  const provider = providers.get("compatible");
  if (!provider) throw new Error("no provider");
  for (let n = 0; n < 3; n += 1) {
    const end = await provider.stream(
      {
        model: "one",
        isThinking: false,
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
    await untilReusable();
  }
  // The second and third were sent on a connection that had already served a response.
  expect({ repeats, requests: server.requests.length }).toEqual({ repeats: ["compatible", "compatible"], requests: 5 });
});
