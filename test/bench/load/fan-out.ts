// Load process: subscribes many connections to one conversation, and sends each message after all of them have received
// the previous one.
import { serveSteps } from "../support/load.ts";
import { createCountdown, type LoadTarget, openSessions } from "./session.ts";

export type FanOutStep =
  | { step: "open"; target: LoadTarget; conversation: string; subscribers: number; contentChars: number }
  | { step: "run"; messages: number };

type Sessions = Awaited<ReturnType<typeof openSessions>>;

let sessions: Sessions;
let setup: Extract<FanOutStep, { step: "open" }>;
let onFrame: () => void = () => {};
let pushBytes = 0;
let messageCount = 0;

async function openSubscribers(step: Extract<FanOutStep, { step: "open" }>) {
  setup = step;
  sessions = await openSessions(step.target, step.subscribers, {
    onAck: () => onFrame(),
    onPush(_index, bytes) {
      pushBytes = bytes;
      onFrame();
    },
  });
  const subscribed = createCountdown(step.subscribers);
  onFrame = subscribed.countDown;
  sessions.sockets.forEach((socket, index) => {
    socket.send(sessions.protocol.createSubscribeFrame(step.conversation, index));
  });
  await subscribed.done;
  return {};
}

async function sendMessages(messages: number) {
  const { sockets, protocol } = sessions;
  const startedAtMs = performance.now();
  for (let message = 0; message < messages; message += 1) {
    // Waits for a push to each subscriber and the sender's ack.
    const delivered = createCountdown(setup.subscribers + 1);
    onFrame = delivered.countDown;
    messageCount += 1;
    sockets[0]?.send(protocol.createSendFrame(setup.conversation, messageCount, "x".repeat(setup.contentChars)));
    await delivered.done;
  }
  return { deliveries: messages * setup.subscribers, pushBytes, elapsedMs: performance.now() - startedAtMs };
}

serveSteps((step: FanOutStep) => (step.step === "open" ? openSubscribers(step) : sendMessages(step.messages)));
