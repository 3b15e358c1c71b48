// Load process: sends the requests of ordinary users at a constant rate, even if the server can't keep up.
import { serveSteps } from "../support/load.ts";
import { encodeText, openSockets, type RawSocket } from "./raw-socket.ts";
import { createCountdown } from "./session.ts";

export type OtherUser = { token: string; email: string; conversationId: string };
export type OtherUsersStep =
  | { step: "open"; url: string; users: OtherUser[]; password: string; sendIntervalMs: number; logInIntervalMs: number }
  /** Resets the measurements. */
  | { step: "reset" }
  | { step: "stop" };

type Setup = Extract<OtherUsersStep, { step: "open" }>;

/** Timeout for requests in flight. Requests that take longer count as errors. */
const STOP_TIMEOUT_MS = 20_000;

let setup: Setup;
let sockets: RawSocket[] = [];
const timers: Timer[] = [];
const sendTimesMs = new Map<string, number>();
let durationsMs: number[] = [];
let loginDurationsMs: number[] = [];
let errorCount = 0;
let pendingRequests = 0;
let frameCount = 0;
const messageIdPrefix = Bun.randomUUIDv7().slice(-12);

async function openConnections(step: Setup) {
  setup = step;
  const { url, users } = step;
  const ready = createCountdown(users.length);
  const onText = (payload: Buffer) => {
    // Every response begins with its type and id.
    const [, type, id = ""] = /^\{"type":"(\w+)"(?:,"id":"(\d+)")?/.exec(payload.toString("latin1", 0, 80)) ?? [];
    if (type === "ready") return ready.countDown();
    const startedAtMs = sendTimesMs.get(id);
    if (startedAtMs === undefined) return;
    sendTimesMs.delete(id);
    if (type === "ack") durationsMs.push(performance.now() - startedAtMs);
    else errorCount += 1;
  };
  const onClose = () => {
    errorCount += 1;
  };
  sockets = await openSockets(
    users.map((user, index) => ({
      url: `${url}/realtime`,
      headers: {
        authorization: `Bearer ${user.token}`,
        "sec-websocket-protocol": "parley.v1",
        "x-forwarded-for": createIpAddress(index),
      },
      onText,
      onClose,
    })),
  );
  await ready.done;
  const intervalMs = step.sendIntervalMs;
  users.forEach((user, index) => {
    // Spreads the sends over the interval.
    setTimeout(
      () => timers.push(setInterval(() => sendMessage(user, index), intervalMs)),
      (index * intervalMs) / users.length,
    );
  });
  timers.push(setInterval(() => void requestProfile(), intervalMs));
  timers.push(setInterval(() => void requestLogin(), step.logInIntervalMs));
  return {};
}

const createIpAddress = (index: number) => `198.51.100.${index + 1}`;

function sendMessage({ conversationId: conversation_id }: OtherUser, index: number): void {
  frameCount += 1;
  sendTimesMs.set(`${frameCount}`, performance.now());
  const client_message_id = `${messageIdPrefix}-${frameCount}`;
  const frame = {
    type: "message.send",
    id: `${frameCount}`,
    conversation_id,
    client_message_id,
    content: "Good morning.",
    reply: false,
  };
  sockets[index]?.send(encodeText(JSON.stringify(frame)));
}

async function measureRequest(getDurations: () => number[], path: string, init: RequestInit): Promise<void> {
  pendingRequests += 1;
  const startedAtMs = performance.now();
  try {
    const response = await fetch(`${setup.url}/api/v1${path}`, init);
    await response.arrayBuffer();
    if (response.ok) getDurations().push(performance.now() - startedAtMs);
    else errorCount += 1;
  } catch {
    errorCount += 1;
  }
  pendingRequests -= 1;
}

const requestProfile = () =>
  measureRequest(() => durationsMs, "/me", {
    headers: { authorization: `Bearer ${setup.users[0]?.token}`, "x-forwarded-for": createIpAddress(0) },
  });

const requestLogin = () =>
  measureRequest(() => loginDurationsMs, "/auth/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-forwarded-for": createIpAddress(1) },
    body: JSON.stringify({ email: setup.users[1]?.email, password: setup.password }),
  });

function resetMeasurements() {
  durationsMs = [];
  loginDurationsMs = [];
  errorCount = 0;
  return Promise.resolve({});
}

async function stopRequests() {
  for (const timer of timers.splice(0)) clearInterval(timer);
  const deadlineMs = performance.now() + STOP_TIMEOUT_MS;
  while ((sendTimesMs.size > 0 || pendingRequests > 0) && performance.now() < deadlineMs) await Bun.sleep(10);
  errorCount += sendTimesMs.size + pendingRequests;
  for (const socket of sockets) socket.close();
  durationsMs.sort((a, b) => a - b);
  const getQuantile = (share: number) =>
    durationsMs[Math.min(durationsMs.length - 1, Math.floor(share * durationsMs.length))] ?? 0;
  return {
    count: durationsMs.length,
    p50Ms: getQuantile(0.5),
    p99Ms: getQuantile(0.99),
    maxMs: getQuantile(1),
    loginMaxMs: Math.max(0, ...loginDurationsMs),
    errors: errorCount,
  };
}

serveSteps((step: OtherUsersStep) => {
  if (step.step === "open") return openConnections(step);
  return step.step === "reset" ? resetMeasurements() : stopRequests();
});
