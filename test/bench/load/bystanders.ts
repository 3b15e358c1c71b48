// Load process: ordinary users at a steady pace, whether or not the server keeps up.
import { serveSteps } from "../support/load.ts";
import { createCountdown } from "./session.ts";
import { connectAll, encodeText, type Wire } from "./wire.ts";

export type Bystander = { token: string; email: string; conversationId: string };
export type BystandersStep =
  | { step: "open"; url: string; users: Bystander[]; password: string; sendEveryMs: number; logInEveryMs: number }
  /** Resets the measurements. */
  | { step: "start" }
  | { step: "stop" };

type Setup = Extract<BystandersStep, { step: "open" }>;

/** How long requests in flight are awaited at the end; slower ones count as errors. */
const END_TIMEOUT_MS = 20_000;

let setup: Setup;
let wires: Wire[] = [];
const timers: Timer[] = [];
const sentAtMs = new Map<string, number>();
let tookMs: number[] = [];
let loginMs: number[] = [];
let errors = 0;
let pending = 0;
let n = 0;
const prefix = Bun.randomUUIDv7().slice(-12);

async function open(step: Setup) {
  setup = step;
  const { url, users } = step;
  const ready = createCountdown(users.length);
  const onText = (payload: Buffer) => {
    // Every response starts with an id.
    const [, type, id = ""] = /^\{"type":"(\w+)"(?:,"id":"(\d+)")?/.exec(payload.toString("latin1", 0, 80)) ?? [];
    if (type === "ready") return ready.step();
    const at = sentAtMs.get(id);
    if (at === undefined) return;
    sentAtMs.delete(id);
    if (type === "ack") tookMs.push(performance.now() - at);
    else errors += 1;
  };
  const onEnd = () => {
    errors += 1;
  };
  wires = await connectAll(
    users.map((user, index) => ({
      url: `${url}/realtime`,
      headers: {
        authorization: `Bearer ${user.token}`,
        "sec-websocket-protocol": "parley.v1",
        "x-forwarded-for": addressOf(index),
      },
      onText,
      onEnd,
    })),
  );
  await ready.done;
  const everyMs = step.sendEveryMs;
  users.forEach((user, index) => {
    // Spread over the interval.
    setTimeout(() => timers.push(setInterval(() => send(user, index), everyMs)), (index * everyMs) / users.length);
  });
  timers.push(setInterval(() => void readMe(), everyMs));
  timers.push(setInterval(() => void logIn(), step.logInEveryMs));
  return {};
}

const addressOf = (index: number) => `198.51.100.${index + 1}`;

function send({ conversationId: conversation_id }: Bystander, index: number): void {
  n += 1;
  sentAtMs.set(`${n}`, performance.now());
  const client_message_id = `${prefix}-${n}`;
  const frame = {
    type: "message.send",
    id: `${n}`,
    conversation_id,
    client_message_id,
    content: "Good morning.",
    reply: false,
  };
  wires[index]?.send(encodeText(JSON.stringify(frame)));
}

async function ask(took: () => number[], path: string, init: RequestInit): Promise<void> {
  pending += 1;
  const askedAtMs = performance.now();
  try {
    const response = await fetch(`${setup.url}/api/v1${path}`, init);
    await response.arrayBuffer();
    if (response.ok) took().push(performance.now() - askedAtMs);
    else errors += 1;
  } catch {
    errors += 1;
  }
  pending -= 1;
}

const readMe = () =>
  ask(() => tookMs, "/me", {
    headers: { authorization: `Bearer ${setup.users[0]?.token}`, "x-forwarded-for": addressOf(0) },
  });

const logIn = () =>
  ask(() => loginMs, "/auth/login", {
    method: "POST",
    headers: { "content-type": "application/json", "x-forwarded-for": addressOf(1) },
    body: JSON.stringify({ email: setup.users[1]?.email, password: setup.password }),
  });

function start() {
  tookMs = [];
  loginMs = [];
  errors = 0;
  return Promise.resolve({});
}

async function stop() {
  for (const timer of timers.splice(0)) clearInterval(timer);
  const untilMs = performance.now() + END_TIMEOUT_MS;
  while ((sentAtMs.size > 0 || pending > 0) && performance.now() < untilMs) await Bun.sleep(10);
  errors += sentAtMs.size + pending;
  for (const wire of wires) wire.close();
  tookMs.sort((a, b) => a - b);
  const quantile = (share: number) => tookMs[Math.min(tookMs.length - 1, Math.floor(share * tookMs.length))] ?? 0;
  return {
    count: tookMs.length,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    maxMs: quantile(1),
    loginMaxMs: Math.max(0, ...loginMs),
    errors,
  };
}

serveSteps((step: BystandersStep) => {
  if (step.step === "open") return open(step);
  return step.step === "start" ? start() : stop();
});
