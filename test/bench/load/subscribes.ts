// Load process: repeatedly subscribes to a conversation, always starting after the same sequence number.
import { serveSteps } from "../support/load.ts";
import { encodeText } from "./raw-socket.ts";
import { type LoadTarget, openSessions } from "./session.ts";

export type SubscriptionsStep =
  | { step: "open"; target: LoadTarget }
  | { step: "run"; conversationId: string; afterSeq: number; times: number };

let sessions: Awaited<ReturnType<typeof openSessions>>;
let onAck: () => void = () => {};
let ackBytes = 0;

async function openConnection(target: LoadTarget) {
  sessions = await openSessions(target, 1, {
    onAck: (_index, bytes) => {
      ackBytes = bytes;
      onAck();
    },
    onPush() {},
  });
  return {};
}

function sendAndAwaitAck(frame: object): Promise<void> {
  return new Promise((resolve) => {
    onAck = resolve;
    sessions.sockets[0]?.send(encodeText(JSON.stringify(frame)));
  });
}

async function measureSubscriptions({
  conversationId: conversation_id,
  afterSeq: after_seq,
  times,
}: Extract<SubscriptionsStep, { step: "run" }>) {
  const durationsMs: number[] = [];
  let bytes = 0;
  for (let n = 0; n < times; n += 1) {
    const startedAtMs = performance.now();
    await sendAndAwaitAck({ type: "subscribe", id: `${n}`, conversation_id, after_seq });
    durationsMs.push(performance.now() - startedAtMs);
    bytes = ackBytes;
    await sendAndAwaitAck({ type: "unsubscribe", id: `-${n}`, conversation_id });
  }
  durationsMs.sort((a, b) => a - b);
  const getQuantile = (share: number) => durationsMs[Math.min(times - 1, Math.floor(share * times))] ?? Number.NaN;
  return { p50Ms: getQuantile(0.5), p99Ms: getQuantile(0.99), bytes };
}

serveSteps((step: SubscriptionsStep) =>
  step.step === "open" ? openConnection(step.target) : measureSubscriptions(step),
);
