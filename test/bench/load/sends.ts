// Load process: each connection has its own conversation, and keeps some messages in flight.
import { serveSteps } from "../support/load.ts";
import { createCountdown, openSessions, type Target } from "./session.ts";

export type SendsStep =
  | {
      step: "open";
      target: Target;
      /** One per connection. */
      conversations: string[];
      inFlight: number;
      contentChars: number;
      /** Others write there as well: nobody subscribes, and pushes are not counted. */
      isShared?: boolean;
    }
  | { step: "run"; durationMs: number };

type Sessions = Awaited<ReturnType<typeof openSessions>>;

let sessions: Sessions;
let setup: Extract<SendsStep, { step: "open" }>;
let onAck: (index: number) => void = () => {};
let pushes = 0;
let n = 0;

function send(index: number): void {
  n += 1;
  const { wires, dialect } = sessions;
  wires[index]?.send(dialect.send(setup.conversations[index] ?? "", n, "x".repeat(setup.contentChars)));
}

async function open(step: Extract<SendsStep, { step: "open" }>) {
  setup = step;
  const { target, conversations } = step;
  sessions = await openSessions(target, conversations.length, {
    onAck: (index) => onAck(index),
    onPush() {
      pushes += 1;
    },
  });
  if (step.isShared) return {};
  const subscribed = createCountdown(conversations.length);
  onAck = subscribed.step;
  conversations.forEach((id, index) => {
    sessions.wires[index]?.send(sessions.dialect.subscribe(id, index));
  });
  await subscribed.done;
  return {};
}

async function run(durationMs: number) {
  pushes = 0;
  let acks = 0;
  let all = 0;
  let isOver = false;
  const inFlight = setup.conversations.length * setup.inFlight;
  const finished = createCountdown(inFlight);
  onAck = (index) => {
    all += 1;
    if (isOver) return finished.step();
    acks += 1;
    send(index);
  };
  const startedAtMs = performance.now();
  for (let index = 0; index < inFlight; index += 1) send(index % setup.conversations.length);
  await Bun.sleep(durationMs);
  const elapsedMs = performance.now() - startedAtMs;
  isOver = true;
  await finished.done;
  // The pushes of the last messages may arrive after their acks.
  if (setup.isShared) return { acks, all, elapsedMs };
  for (let waits = 0; pushes < all && waits < 100; waits += 1) await Bun.sleep(10);
  if (pushes !== all) throw new Error(`${all} messages were acknowledged, ${pushes} pushed.`);
  return { acks, all, elapsedMs };
}

serveSteps((step: SendsStep) => (step.step === "open" ? open(step) : run(step.durationMs)));
