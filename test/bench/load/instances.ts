// Load process: each conversation has a sender on one instance, and a watcher on the next one.
import { serveSteps } from "../support/load.ts";
import { quantile } from "../support/quantile.ts";
import { createCountdown, type LoadTarget, openSessions } from "./session.ts";

export type InstancesStep =
  | {
      step: "open";
      /** One per instance. They only differ in their URL. */
      targets: LoadTarget[];
      conversations: string[];
      inFlight: number;
      contentChars: number;
    }
  /** Sends a message for each ack. */
  | { step: "run"; durationMs: number }
  /** Sends messages at a constant rate, to measure the latency of pushes. */
  | { step: "pace"; durationMs: number; perSecond: number };

const DRAIN_TIMEOUT_MS = 30_000;

type Sessions = Awaited<ReturnType<typeof openSessions>>;
type ConnectedUser = { sessions: Sessions; socketIndex: number };

let setup: Extract<InstancesStep, { step: "open" }>;
let senders: ConnectedUser[] = [];
let onAck: (conversation: number) => void = () => {};
/** For each conversation, the send times of the messages that have not been pushed to its watcher. */
let sentAtMs: number[][] = [];
let latenciesMs: number[] = [];
let messageCount = 0;

/** Connects each conversation's sender (offset 0) or watcher (offset 1) to its instance. */
async function openUsers(offset: number, listener: Parameters<typeof openSessions>[2]): Promise<ConnectedUser[]> {
  const { targets, conversations } = setup;
  const users: ConnectedUser[] = [];
  for (const [instance, target] of targets.entries()) {
    const ownConversations = [...conversations.keys()].filter(
      (index) => (index + offset) % targets.length === instance,
    );
    const sessions = await openSessions(target, ownConversations.length, {
      onAck: (socketIndex, bytes) => listener.onAck(ownConversations[socketIndex] ?? 0, bytes),
      onPush: (socketIndex, bytes, payload) => listener.onPush(ownConversations[socketIndex] ?? 0, bytes, payload),
    });
    for (const [socketIndex, index] of ownConversations.entries()) users[index] = { sessions, socketIndex };
  }
  return users;
}

async function open(step: Extract<InstancesStep, { step: "open" }>) {
  setup = step;
  sentAtMs = step.conversations.map(() => []);
  const subscribed = createCountdown(step.conversations.length);
  senders = await openUsers(0, { onAck: (conversation) => onAck(conversation), onPush() {} });
  const watchers = await openUsers(1, {
    onAck: subscribed.countDown,
    onPush(conversation) {
      const startedAtMs = sentAtMs[conversation]?.shift();
      if (startedAtMs !== undefined) latenciesMs.push(performance.now() - startedAtMs);
    },
  });
  for (const [index, { sessions, socketIndex }] of watchers.entries())
    sessions.sockets[socketIndex]?.send(sessions.protocol.subscribe(step.conversations[index] ?? "", index));
  await subscribed.done;
  return {};
}

function send(conversation: number): void {
  const sender = senders[conversation];
  if (!sender) return;
  messageCount += 1;
  sentAtMs[conversation]?.push(performance.now());
  const text = sender.sessions.protocol.send(
    setup.conversations[conversation] ?? "",
    messageCount,
    "x".repeat(setup.contentChars),
  );
  sender.sessions.sockets[sender.socketIndex]?.send(text);
}

const countUnpushed = (): number => sentAtMs.reduce((sum, { length }) => sum + length, 0);

/** Waits for the last pushes. Returns the number of pushes that didn't arrive. */
async function drain(): Promise<number> {
  const deadlineMs = performance.now() + DRAIN_TIMEOUT_MS;
  while (countUnpushed() > 0 && performance.now() < deadlineMs) await Bun.sleep(5);
  const missing = countUnpushed();
  sentAtMs = setup.conversations.map(() => []);
  return missing;
}

async function run(durationMs: number) {
  let acks = 0;
  let isFinished = false;
  latenciesMs = [];
  const inFlight = setup.conversations.length * setup.inFlight;
  const finished = createCountdown(inFlight);
  onAck = (conversation) => {
    if (isFinished) return finished.countDown();
    acks += 1;
    send(conversation);
  };
  const startedAtMs = performance.now();
  for (let index = 0; index < inFlight; index += 1) send(index % setup.conversations.length);
  await Bun.sleep(durationMs);
  const elapsedMs = performance.now() - startedAtMs;
  isFinished = true;
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
