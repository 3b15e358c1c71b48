// Load process: repeats requests over keep-alive connections, and measures their latency.
import type { Socket } from "bun";
import { serveSteps } from "../support/load.ts";
import { createCountdown } from "./session.ts";

export type RequestsStep =
  | {
      step: "open";
      url: string;
      method: "GET" | "POST";
      /** If there are several paths, they are requested in rotation. */
      path: string | readonly string[];
      headers: Record<string, string>;
      body?: string;
      /** Each connection has one request in flight. */
      connections: number;
      /** Pause between a response and the next request. */
      pauseMs?: number;
    }
  /** Stops after this time or this number of requests. */
  | { step: "run"; durationMs: number; requestsMax?: number };

type Setup = Extract<RequestsStep, { step: "open" }>;
type State = { received: string; requestedAtMs: number };

/** The end of a chunked body. */
const LAST_CHUNK = "\r\n0\r\n\r\n";

let setup: Setup;
let rawRequests: string[] = [];
let sentCount = 0;
let endsAtMs = 0;
let remainingRequests = 0;
let durationsMs: number[] = [];
let finished = createCountdown(1);

function prepareRequests(step: Setup) {
  setup = step;
  const { hostname, port } = new URL(step.url);
  const { body = "", headers } = step;
  const fields = { host: `${hostname}:${port}`, "content-length": String(Buffer.byteLength(body)), ...headers };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  const paths = typeof step.path === "string" ? [step.path] : step.path;
  rawRequests = paths.map((path) => `${step.method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n${body}`);
  return Promise.resolve({});
}

/** Opens new connections for a step, because servers close idle connections between steps. */
function openConnections(): Promise<Socket<State>[]> {
  const { hostname, port } = new URL(setup.url);
  const openConnection = () =>
    Bun.connect<State>({
      hostname,
      port: Number(port),
      data: { received: "", requestedAtMs: 0 },
      socket: {
        data: receiveData,
        close() {
          if (performance.now() < endsAtMs) exitWithError("The server closed a connection.");
        },
      },
    });
  return Promise.all(Array.from({ length: setup.connections }, openConnection));
}

function sendRequest(socket: Socket<State>): void {
  remainingRequests -= 1;
  socket.data.requestedAtMs = performance.now();
  socket.write(rawRequests[sentCount % rawRequests.length] ?? "");
  sentCount += 1;
}

function receiveData(socket: Socket<State>, bytes: Buffer): void {
  const { data } = socket;
  data.received += bytes.toString("latin1");
  const headEnd = data.received.indexOf("\r\n\r\n");
  if (headEnd < 0) return;
  const contentLength = /^content-length: *(\d+)/im.exec(data.received.slice(0, headEnd))?.[1];
  const isComplete =
    contentLength === undefined
      ? data.received.endsWith(LAST_CHUNK)
      : data.received.length >= headEnd + 4 + Number(contentLength);
  if (!isComplete) return;
  if (!data.received.startsWith("HTTP/1.1 2")) exitWithError(`The server returned ${data.received.slice(0, 500)}`);
  data.received = "";
  const nowMs = performance.now();
  durationsMs.push(nowMs - data.requestedAtMs);
  if (nowMs >= endsAtMs || remainingRequests <= 0) finished.countDown();
  else if (setup.pauseMs === undefined) sendRequest(socket);
  else setTimeout(() => sendRequest(socket), setup.pauseMs);
}

async function repeatRequests(durationMs: number, requestsMax = Number.POSITIVE_INFINITY) {
  durationsMs = [];
  remainingRequests = requestsMax;
  const sockets = await openConnections();
  finished = createCountdown(sockets.length);
  endsAtMs = performance.now() + durationMs;
  for (const socket of sockets) sendRequest(socket);
  await finished.done;
  // From here on, a closed connection is not an error.
  endsAtMs = 0;
  for (const socket of sockets) socket.end();
  durationsMs.sort((a, b) => a - b);
  const getQuantile = (share: number) =>
    durationsMs[Math.min(durationsMs.length - 1, Math.floor(share * durationsMs.length))] ?? Number.NaN;
  return {
    requests: durationsMs.length,
    p50Ms: getQuantile(0.5),
    p95Ms: getQuantile(0.95),
    p99Ms: getQuantile(0.99),
    maxMs: getQuantile(1),
  };
}

function exitWithError(message: string): never {
  console.error(message);
  process.exit(1);
}

serveSteps((step: RequestsStep) =>
  step.step === "open" ? prepareRequests(step) : repeatRequests(step.durationMs, step.requestsMax),
);
