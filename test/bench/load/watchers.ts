// Load process: several connections watch each of many conversations, in which models write.
import { serveSteps } from "../support/load.ts";
import { createCountdown, openSessions, type Target } from "./session.ts";
import { encodeText } from "./wire.ts";

export type WatchersStep =
  | { step: "open"; target: Target; conversations: string[]; watchers: number }
  | { step: "run"; answersPerConversation: number; intervalMs: number };

const TYPE_AT = 9 + "message.".length;
const prefix = Bun.randomUUIDv7().slice(-12);

type Sessions = Awaited<ReturnType<typeof openSessions>>;
let sessions: Sessions;
let setup: Extract<WatchersStep, { step: "open" }>;
let onAck: () => void = () => {};
let onCompleted: (index: number) => void = () => {};
let deltas = 0;
let n = 0;

/** The connections of a conversation are adjacent: the first of them sends the request. */
async function open(step: Extract<WatchersStep, { step: "open" }>) {
  setup = step;
  const { conversations, watchers } = step;
  const count = conversations.length * watchers;
  sessions = await openSessions(step.target, count, {
    onAck: () => onAck(),
    onPush(index, _bytes, payload) {
      // Of `message.delta` and `message.completed`, as well as deleted and created: two letters identify the type.
      const kind = payload.toString("latin1", TYPE_AT, TYPE_AT + 3);
      if (kind === "del") deltas += 1;
      else if (kind === "com") onCompleted(index);
    },
  });
  const subscribed = createCountdown(count);
  onAck = subscribed.step;
  sessions.wires.forEach((wire, index) => {
    wire.send(sessions.dialect.subscribe(conversations[Math.floor(index / watchers)] ?? "", index));
  });
  await subscribed.done;
  onAck = () => {};
  return {};
}

async function run(answersPerConversation: number, intervalMs: number) {
  const { conversations, watchers } = setup;
  deltas = 0;
  const left = conversations.map(() => answersPerConversation);
  const finished = createCountdown(conversations.length * watchers * answersPerConversation);
  const ask = (conversation: number) => {
    left[conversation] = (left[conversation] ?? 0) - 1;
    n += 1;
    const frame = {
      type: "message.send",
      id: `${n}`,
      conversation_id: conversations[conversation],
      client_message_id: `${prefix}-${n}`,
      content: "What is new?",
      reply: true,
    };
    sessions.wires[conversation * watchers]?.send(encodeText(JSON.stringify(frame)));
  };
  onCompleted = (index) => {
    finished.step();
    const conversation = index / watchers;
    if (Number.isInteger(conversation) && (left[conversation] ?? 0) > 0) ask(conversation);
  };
  for (const conversation of conversations.keys()) {
    ask(conversation);
    await Bun.sleep(intervalMs);
  }
  await finished.done;
  return { deltas, answers: conversations.length * answersPerConversation };
}

serveSteps((step: WatchersStep) =>
  step.step === "open" ? open(step) : run(step.answersPerConversation, step.intervalMs),
);
