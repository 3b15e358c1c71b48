// Load process: many connections subscribe to one conversation; each message is sent when all received the previous one.
import { serveSteps } from "../support/load.ts";
import { createCountdown, openSessions, type Target } from "./session.ts";

export type FanOutStep =
  | { step: "open"; target: Target; conversation: string; subscribers: number; contentChars: number }
  | { step: "run"; messages: number };

type Sessions = Awaited<ReturnType<typeof openSessions>>;

let sessions: Sessions;
let setup: Extract<FanOutStep, { step: "open" }>;
let onFrame: () => void = () => {};
let pushBytes = 0;
let n = 0;

async function open(step: Extract<FanOutStep, { step: "open" }>) {
  setup = step;
  sessions = await openSessions(step.target, step.subscribers, {
    onAck: () => onFrame(),
    onPush(_index, bytes) {
      pushBytes = bytes;
      onFrame();
    },
  });
  const subscribed = createCountdown(step.subscribers);
  onFrame = subscribed.step;
  sessions.wires.forEach((wire, index) => {
    wire.send(sessions.dialect.subscribe(step.conversation, index));
  });
  await subscribed.done;
  return {};
}

async function run(messages: number) {
  const { wires, dialect } = sessions;
  const startedAtMs = performance.now();
  for (let message = 0; message < messages; message += 1) {
    // One per subscriber, plus the sender's ack.
    const delivered = createCountdown(setup.subscribers + 1);
    onFrame = delivered.step;
    n += 1;
    wires[0]?.send(dialect.send(setup.conversation, n, "x".repeat(setup.contentChars)));
    await delivered.done;
  }
  return { deliveries: messages * setup.subscribers, pushBytes, elapsedMs: performance.now() - startedAtMs };
}

serveSteps((step: FanOutStep) => (step.step === "open" ? open(step) : run(step.messages)));
