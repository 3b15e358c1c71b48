// Load process: sends the requests of ordinary users at a constant rate, even if the server can't keep up.
import { serveSteps } from "../support/load.ts";
import { connectAll, encodeText, type RawSocket } from "./raw-socket.ts";
import { createCountdown } from "./session.ts";

export type OtherUser = { token: string; email: string; conversationId: string };
export type OtherUsersStep =
  | { step: "open"; url: string; users: OtherUser[]; password: string; sendIntervalMs: number; logInIntervalMs: number }
  /** Resets the measurements. */
  | { step: "start" }
  | { step: "stop" };

type Setup = Extract<OtherUsersStep, { step: "open" }>;

/** Timeout for the last requests. Slower ones count as errors. */
const STOP_TIMEOUT_MS = 20_000;

let setup: Setup;
let sockets: RawSocket[] = [];
const timers: Timer[] = [];
const sentAtMs = new Map<string, number>();
let durationsMs: number[] = [];
let loginDurationsMs: number[] = [];
let errors = 0;
let pending = 0;
let frameCount = 0;
const prefix = Bun.randomUUIDv7().slice(-12);

async function open(step: Setup) {
  setup = step;
  const { url, users } = step;
  const ready = createCountdown(users.length);
  const onText = (payload: Buffer) => {
    // Every response begins with its type and id.
    const [, type, id = ""] = /^\{"type":"(\w+)"(?:,"id":"(\d+)")?/.exec(payload.toString("latin1", 0, 80)) ?? [];
    if (type === "ready") return ready.countDown();
    const at = sentAtMs.get(id);
    if (at === undefined) return;
    sentAtMs.delete(id);
    if (type === "ack") durationsMs.push(performance.now() - at);
    else errors += 1;
  };
  const onClose = () => {
    errors += 1;
  };
  sockets = await connectAll(
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
      () => timers.push(setInterval(() => send(user, index), intervalMs)),
      (index * intervalMs) / users.length,
    );
  });
  timers.push(setInterval(() => void readMe(), intervalMs));
  timers.push(setInterval(() => void logIn(), step.logInIntervalMs));
  return {};
}

const createIpAddress = (index: number) => `198.51.100.${index + 1}`;

function send({ conversationId: conversation_id }: OtherUser, index: number): void {
  frameCount += 1;
  sentAtMs.set(`${frameCount}`, performance.now());
  const client_message_id = `${prefix}-${frameCount}`;
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
  pending += 1;
  const startedAtMs = performance.now();
  try {
    const response = await fetch(`${setup.url}/api/v1${path}`, init);
    await response.arrayBuffer();
    if (response.ok) getDurations().push(performance.now() - startedAtMs);
    else errors += 1;
  } catch {
    errors += 1;
  }
  pending -= 1;
}

const readMe = () =>
  measureRequest(() => durationsMs, "/me", {
    headers: { authorization: `Bearer ${setup.users[0]?.token}`, "x-forwarded-for": createIpAddress(0) },
  });

const logIn = () =>
  measureRequest(() => loginDurationsMs, "/auth/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-forwarded-for": createIpAddress(1) },
    body: JSON.stringify({ email: setup.users[1]?.email, password: setup.password }),
  });

function start() {
  durationsMs = [];
  loginDurationsMs = [];
  errors = 0;
  return Promise.resolve({});
}

async function stop() {
  for (const timer of timers.splice(0)) clearInterval(timer);
  const deadlineMs = performance.now() + STOP_TIMEOUT_MS;
  while ((sentAtMs.size > 0 || pending > 0) && performance.now() < deadlineMs) await Bun.sleep(10);
  errors += sentAtMs.size + pending;
  for (const socket of sockets) socket.close();
  durationsMs.sort((a, b) => a - b);
  const quantile = (share: number) =>
    durationsMs[Math.min(durationsMs.length - 1, Math.floor(share * durationsMs.length))] ?? 0;
  return {
    count: durationsMs.length,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    maxMs: quantile(1),
    loginMaxMs: Math.max(0, ...loginDurationsMs),
    errors,
  };
}

serveSteps((step: OtherUsersStep) => {
  if (step.step === "open") return open(step);
  return step.step === "start" ? start() : stop();
});
