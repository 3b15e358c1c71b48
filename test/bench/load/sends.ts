// Load process: sends messages over many connections, each with its own conversation and several messages in flight.
import { serveSteps } from "../support/load.ts";
import { createCountdown, type LoadTarget, openSessions } from "./session.ts";

export type SendsStep =
  | {
      step: "open";
      target: LoadTarget;
      /** One per connection. */
      conversations: string[];
      inFlight: number;
      contentChars: number;
      /**
       * Whether other load processes send to the same conversations. If so, this process doesn't subscribe, because it
       * would receive their pushes too.
       */
      isShared?: boolean;
    }
  | { step: "run"; durationMs: number };

type Sessions = Awaited<ReturnType<typeof openSessions>>;

let sessions: Sessions;
let setup: Extract<SendsStep, { step: "open" }>;
let onAck: (index: number) => void = () => {};
let pushes = 0;
let messageCount = 0;

function sendMessage(index: number): void {
  messageCount += 1;
  const { sockets, protocol } = sessions;
  sockets[index]?.send(
    protocol.createSendFrame(setup.conversations[index] ?? "", messageCount, "x".repeat(setup.contentChars)),
  );
}

async function openSenders(step: Extract<SendsStep, { step: "open" }>) {
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
  onAck = subscribed.countDown;
  conversations.forEach((id, index) => {
    sessions.sockets[index]?.send(sessions.protocol.createSubscribeFrame(id, index));
  });
  await subscribed.done;
  return {};
}

async function measureSends(durationMs: number) {
  pushes = 0;
  let acks = 0;
  let allAcks = 0;
  let isFinished = false;
  const inFlight = setup.conversations.length * setup.inFlight;
  const finished = createCountdown(inFlight);
  onAck = (index) => {
    allAcks += 1;
    if (isFinished) return finished.countDown();
    acks += 1;
    sendMessage(index);
  };
  const startedAtMs = performance.now();
  for (let index = 0; index < inFlight; index += 1) sendMessage(index % setup.conversations.length);
  await Bun.sleep(durationMs);
  const elapsedMs = performance.now() - startedAtMs;
  isFinished = true;
  await finished.done;
  if (setup.isShared) return { acks, elapsedMs };
  // The last pushes can arrive after the last acks.
  for (let waits = 0; pushes < allAcks && waits < 100; waits += 1) await Bun.sleep(10);
  if (pushes !== allAcks) throw new Error(`${allAcks} messages were acknowledged, but ${pushes} were pushed.`);
  return { acks, elapsedMs };
}

serveSteps((step: SendsStep) => (step.step === "open" ? openSenders(step) : measureSends(step.durationMs)));
