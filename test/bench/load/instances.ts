// Load process: each conversation has a sender, and a watcher that is connected to the next instance.
import { serveSteps } from "../support/load.ts";
import { quantile } from "../support/quantile.ts";
import { createCountdown, openSessions, type Target } from "./session.ts";

export type InstancesStep =
  | {
      step: "open";
      /** One per instance, differing only in the address. */
      targets: Target[];
      conversations: string[];
      inFlight: number;
      contentChars: number;
    }
  /** Sends as fast as acks arrive. */
  | { step: "run"; durationMs: number }
  /** Sends this many per second, to measure the latency of pushes. */
  | { step: "pace"; durationMs: number; perSecond: number };

const DRAIN_MS_MAX = 30_000;

type Sessions = Awaited<ReturnType<typeof openSessions>>;
type Place = { sessions: Sessions; wire: number };

let setup: Extract<InstancesStep, { step: "open" }>;
let senders: Place[] = [];
let onAck: (conversation: number) => void = () => {};
/** The send times of each conversation's messages that have not been pushed to its watcher. */
let sentAtMs: number[][] = [];
let latenciesMs: number[] = [];
let n = 0;

/** Opens a connection to each instance for the conversations whose sender, or watcher, is there. */
async function openPlaces(offset: number, listener: Parameters<typeof openSessions>[2]): Promise<Place[]> {
  const { targets, conversations } = setup;
  const places: Place[] = [];
  for (const [instance, target] of targets.entries()) {
    const own = [...conversations.keys()].filter((index) => (index + offset) % targets.length === instance);
    const sessions = await openSessions(target, own.length, {
      onAck: (wire, bytes) => listener.onAck(own[wire] ?? 0, bytes),
      onPush: (wire, bytes, payload) => listener.onPush(own[wire] ?? 0, bytes, payload),
    });
    for (const [wire, index] of own.entries()) places[index] = { sessions, wire };
  }
  return places;
}

async function open(step: Extract<InstancesStep, { step: "open" }>) {
  setup = step;
  sentAtMs = step.conversations.map(() => []);
  const subscribed = createCountdown(step.conversations.length);
  senders = await openPlaces(0, { onAck: (conversation) => onAck(conversation), onPush() {} });
  const watchers = await openPlaces(1, {
    onAck: subscribed.step,
    onPush(conversation) {
      const startedAtMs = sentAtMs[conversation]?.shift();
      if (startedAtMs !== undefined) latenciesMs.push(performance.now() - startedAtMs);
    },
  });
  for (const [index, { sessions, wire }] of watchers.entries())
    sessions.wires[wire]?.send(sessions.dialect.subscribe(step.conversations[index] ?? "", index));
  await subscribed.done;
  return {};
}

function send(conversation: number): void {
  const place = senders[conversation];
  if (!place) return;
  n += 1;
  sentAtMs[conversation]?.push(performance.now());
  const text = place.sessions.dialect.send(setup.conversations[conversation] ?? "", n, "x".repeat(setup.contentChars));
  place.sessions.wires[place.wire]?.send(text);
}

const countUnpushed = (): number => sentAtMs.reduce((sum, { length }) => sum + length, 0);

/** Waits for the pushes after the last acks. @returns how many never arrived. */
async function drain(): Promise<number> {
  const endsAtMs = performance.now() + DRAIN_MS_MAX;
  while (countUnpushed() > 0 && performance.now() < endsAtMs) await Bun.sleep(5);
  const missing = countUnpushed();
  sentAtMs = setup.conversations.map(() => []);
  return missing;
}

async function run(durationMs: number) {
  let acks = 0;
  let isOver = false;
  latenciesMs = [];
  const inFlight = setup.conversations.length * setup.inFlight;
  const finished = createCountdown(inFlight);
  onAck = (conversation) => {
    if (isOver) return finished.step();
    acks += 1;
    send(conversation);
  };
  const startedAtMs = performance.now();
  for (let index = 0; index < inFlight; index += 1) send(index % setup.conversations.length);
  await Bun.sleep(durationMs);
  const elapsedMs = performance.now() - startedAtMs;
  isOver = true;
  await finished.done;
  return { acks, elapsedMs, missing: await drain() };
}

async function pace(durationMs: number, perSecond: number) {
  onAck = () => {};
  latenciesMs = [];
  const startedAtMs = performance.now();
  for (let sent = 0; performance.now() - startedAtMs < durationMs; ) {
    const due = ((performance.now() - startedAtMs) / 1000) * perSecond;
    for (; sent < due; sent += 1) send(sent % setup.conversations.length);
    await Bun.sleep(1);
  }
  const missing = await drain();
  return { missing, pushes: latenciesMs.length, p50Ms: quantile(latenciesMs, 0.5), p99Ms: quantile(latenciesMs, 0.99) };
}

serveSteps((step: InstancesStep) => {
  if (step.step === "open") return open(step);
  return step.step === "run" ? run(step.durationMs) : pace(step.durationMs, step.perSecond);
});
