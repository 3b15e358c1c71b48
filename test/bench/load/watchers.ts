// Load process: requests answers in many conversations. Several connections watch each conversation.
import { serveSteps } from "../support/load.ts";
import { encodeText } from "./raw-socket.ts";
import { createCountdown, type LoadTarget, openSessions } from "./session.ts";

export type WatchersStep =
  | { step: "open"; target: LoadTarget; conversations: string[]; watchers: number }
  | { step: "run"; answersPerConversation: number; intervalMs: number };

/** The index after `{"type":"message.`. */
const TYPE_INDEX = 9 + "message.".length;
const messageIdPrefix = Bun.randomUUIDv7().slice(-12);

type Sessions = Awaited<ReturnType<typeof openSessions>>;
let sessions: Sessions;
let setup: Extract<WatchersStep, { step: "open" }>;
let onAck: () => void = () => {};
let onCompleted: (index: number) => void = () => {};
let deltas = 0;
let frameCount = 0;

/** Opens the connections. Each conversation's connections are adjacent, and the first of them sends the requests. */
async function openWatchers(step: Extract<WatchersStep, { step: "open" }>) {
  setup = step;
  const { conversations, watchers } = step;
  const count = conversations.length * watchers;
  sessions = await openSessions(step.target, count, {
    onAck: () => onAck(),
    onPush(index, _bytes, payload) {
      // Three letters after `message.` are enough to recognize `message.delta` and `message.completed`.
      const kind = payload.toString("latin1", TYPE_INDEX, TYPE_INDEX + 3);
      if (kind === "del") deltas += 1;
      else if (kind === "com") onCompleted(index);
    },
  });
  const subscribed = createCountdown(count);
  onAck = subscribed.countDown;
  sessions.sockets.forEach((socket, index) => {
    socket.send(sessions.protocol.createSubscribeFrame(conversations[Math.floor(index / watchers)] ?? "", index));
  });
  await subscribed.done;
  onAck = () => {};
  return {};
}

async function requestAnswers(answersPerConversation: number, intervalMs: number) {
  const { conversations, watchers } = setup;
  deltas = 0;
  const remainingAnswers = conversations.map(() => answersPerConversation);
  const finished = createCountdown(conversations.length * watchers * answersPerConversation);
  const requestAnswer = (conversationIndex: number) => {
    remainingAnswers[conversationIndex] = (remainingAnswers[conversationIndex] ?? 0) - 1;
    frameCount += 1;
    const frame = {
      type: "message.send",
      id: `${frameCount}`,
      conversation_id: conversations[conversationIndex],
      client_message_id: `${messageIdPrefix}-${frameCount}`,
      content: "What's new?",
      reply: true,
    };
    sessions.sockets[conversationIndex * watchers]?.send(encodeText(JSON.stringify(frame)));
  };
  onCompleted = (index) => {
    finished.countDown();
    const conversationIndex = index / watchers;
    if (Number.isInteger(conversationIndex) && (remainingAnswers[conversationIndex] ?? 0) > 0)
      requestAnswer(conversationIndex);
  };
  for (const conversationIndex of conversations.keys()) {
    requestAnswer(conversationIndex);
    await Bun.sleep(intervalMs);
  }
  await finished.done;
  return { deltas, answers: conversations.length * answersPerConversation };
}

serveSteps((step: WatchersStep) =>
  step.step === "open" ? openWatchers(step) : requestAnswers(step.answersPerConversation, step.intervalMs),
);
