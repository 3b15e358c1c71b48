// Load process: subscribes to a conversation repeatedly, each time from the same position, one after the other.
import { serveSteps } from "../support/load.ts";
import { openSessions, type Target } from "./session.ts";
import { encodeText } from "./wire.ts";

export type SubscribesStep =
  | { step: "open"; target: Target }
  | { step: "run"; conversationId: string; afterSeq: number; times: number };

let sessions: Awaited<ReturnType<typeof openSessions>>;
let onAck: () => void = () => {};
let ackBytes = 0;

async function open(target: Target) {
  sessions = await openSessions(target, 1, {
    onAck: (_index, bytes) => {
      ackBytes = bytes;
      onAck();
    },
    onPush() {},
  });
  return {};
}

function ask(frame: object): Promise<void> {
  return new Promise((resolve) => {
    onAck = resolve;
    sessions.wires[0]?.send(encodeText(JSON.stringify(frame)));
  });
}

async function run({
  conversationId: conversation_id,
  afterSeq: after_seq,
  times,
}: Extract<SubscribesStep, { step: "run" }>) {
  const tookMs: number[] = [];
  let bytes = 0;
  for (let n = 0; n < times; n += 1) {
    const askedAtMs = performance.now();
    await ask({ type: "subscribe", id: `${n}`, conversation_id, after_seq });
    tookMs.push(performance.now() - askedAtMs);
    bytes = ackBytes;
    await ask({ type: "unsubscribe", id: `-${n}`, conversation_id });
  }
  tookMs.sort((a, b) => a - b);
  const quantile = (share: number) => tookMs[Math.min(times - 1, Math.floor(share * times))] ?? Number.NaN;
  return { p50Ms: quantile(0.5), p99Ms: quantile(0.99), bytes };
}

serveSteps((step: SubscribesStep) => (step.step === "open" ? open(step.target) : run(step)));
