// Load process: each conversation has a sender on one instance, and a watcher on the next one.
import { serveSteps } from "../support/load.ts";
import { quantile } from "../support/quantile.ts";
import { createCountdown, type LoadTarget, openSessions } from "./session.ts";

export type InstancesStep =
  | {
      step: "open";
      /** One per instance. They differ only in their URL. */
      targets: LoadTarget[];
      conversations: string[];
      inFlight: number;
      contentChars: number;
    }
  /** Sends the next message when the previous one is acknowledged, to measure the throughput. */
  | { step: "run"; durationMs: number }
  /** Sends messages at a constant rate, to measure the latency of pushes. */
  | { step: "pace"; durationMs: number; perSecond: number };

const DRAIN_TIMEOUT_MS = 30_000;

type Sessions = Awaited<ReturnType<typeof openSessions>>;
type ConnectedUser = { sessions: Sessions; socketIndex: number };

let setup: Extract<InstancesStep, { step: "open" }>;
let senders: ConnectedUser[] = [];
let onAck: (conversation: number) => void = () => {};
/** For each conversation, the send times of messages that its watcher has not received. */
let pendingSendTimesMs: number[][] = [];
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

async function openSendersAndWatchers(step: Extract<InstancesStep, { step: "open" }>) {
  setup = step;
  pendingSendTimesMs = step.conversations.map(() => []);
  const subscribed = createCountdown(step.conversations.length);
  senders = await openUsers(0, { onAck: (conversation) => onAck(conversation), onPush() {} });
  const watchers = await openUsers(1, {
    onAck: subscribed.countDown,
    onPush(conversation) {
      const startedAtMs = pendingSendTimesMs[conversation]?.shift();
      if (startedAtMs !== undefined) latenciesMs.push(performance.now() - startedAtMs);
    },
  });
  for (const [index, { sessions, socketIndex }] of watchers.entries())
    sessions.sockets[socketIndex]?.send(sessions.protocol.createSubscribeFrame(step.conversations[index] ?? "", index));
  await subscribed.done;
  return {};
}

function sendMessage(conversation: number): void {
  const sender = senders[conversation];
  if (!sender) return;
  messageCount += 1;
  pendingSendTimesMs[conversation]?.push(performance.now());
  const frame = sender.sessions.protocol.createSendFrame(
    setup.conversations[conversation] ?? "",
    messageCount,
    "x".repeat(setup.contentChars),
  );
  sender.sessions.sockets[sender.socketIndex]?.send(frame);
}

const countPendingPushes = (): number => pendingSendTimesMs.reduce((sum, { length }) => sum + length, 0);

/** Waits for the last pushes. Returns the number of pushes that didn't arrive. */
async function waitForPushes(): Promise<number> {
  const deadlineMs = performance.now() + DRAIN_TIMEOUT_MS;
  while (countPendingPushes() > 0 && performance.now() < deadlineMs) await Bun.sleep(5);
  const missingCount = countPendingPushes();
  pendingSendTimesMs = setup.conversations.map(() => []);
  return missingCount;
}

async function measureThroughput(durationMs: number) {
  let acks = 0;
  let isFinished = false;
  latenciesMs = [];
  const inFlight = setup.conversations.length * setup.inFlight;
  const finished = createCountdown(inFlight);
  onAck = (conversation) => {
    if (isFinished) return finished.countDown();
    acks += 1;
    sendMessage(conversation);
  };
  const startedAtMs = performance.now();
  for (let index = 0; index < inFlight; index += 1) sendMessage(index % setup.conversations.length);
  await Bun.sleep(durationMs);
  const elapsedMs = performance.now() - startedAtMs;
  isFinished = true;
  await finished.done;
  return { acks, elapsedMs, missing: await waitForPushes() };
}

async function measureLatency(durationMs: number, perSecond: number) {
  onAck = () => {};
  latenciesMs = [];
  const startedAtMs = performance.now();
  for (let sentCount = 0; performance.now() - startedAtMs < durationMs; ) {
    const dueCount = ((performance.now() - startedAtMs) / 1000) * perSecond;
    for (; sentCount < dueCount; sentCount += 1) sendMessage(sentCount % setup.conversations.length);
    await Bun.sleep(1);
  }
  const missing = await waitForPushes();
  return { missing, pushes: latenciesMs.length, p50Ms: quantile(latenciesMs, 0.5), p99Ms: quantile(latenciesMs, 0.99) };
}

serveSteps((step: InstancesStep) => {
  if (step.step === "open") return openSendersAndWatchers(step);
  return step.step === "run" ? measureThroughput(step.durationMs) : measureLatency(step.durationMs, step.perSecond);
});
