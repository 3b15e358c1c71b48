import { expect, test } from "bun:test";
import type { Frame } from "../support/socket.ts";
import { checkHistory } from "./check.ts";
import type { History, Rule, Seen, Send, StoredMessage } from "./record.ts";

const ANNA = "anna";
const BEN = "ben";
const ANSWER = "Hello, you two.";

const push = (seq: number, type: string, data: Record<string, unknown>): Seen => ({
  type: "event",
  event: { type, seq, data } as Frame,
  atMs: seq * 10 + 5,
});
const row = (seq: number, clientMessageId: string | null, content: string): StoredMessage => ({
  id: `m${seq}`,
  conversationId: "c",
  seq,
  role: clientMessageId ? "user" : "assistant",
  clientMessageId,
  content,
  status: "complete",
});
const send = (n: number, seq: number, steps: [number, number]): Send => ({
  client: ANNA,
  conversationId: "c",
  clientMessageId: `a${n}`,
  content: `text ${n}`,
  sentStep: steps[0],
  ackedStep: steps[1],
  acks: [{ id: `m${seq}`, seq, content: `text ${n}` }],
});
const userMessage = (seq: number, n: number): Seen =>
  push(seq, "message.created", { id: `m${seq}`, content: `text ${n}`, status: "complete" });
const delta = (offset: number, text: string, attempt = 1): Seen => ({
  type: "text",
  frame: { type: "message.delta", message_id: "m4", attempt, offset, text },
});
const reset = (text: string, attempt: number): Seen => ({
  type: "text",
  frame: { type: "message.reset", message_id: "m4", attempt, text },
});

/** Anna's view: Ben is added, two messages, an answer, Ben is removed, a third message. */
const createView = (): Seen[] => [
  { type: "subscribed", afterSeq: 0, isRecovered: true, lastSeq: 0, events: [] },
  push(1, "member.added", { user_id: BEN }),
  userMessage(2, 1),
  userMessage(3, 2),
  push(4, "message.created", { id: "m4", role: "assistant", content: "", status: "streaming" }),
  delta(0, "Hello, "),
  delta(7, "you two."),
  push(5, "message.completed", { id: "m4", content: ANSWER, status: "complete" }),
  push(6, "member.removed", { user_id: BEN }),
  userMessage(7, 3),
];

function createHistory(): History {
  const event = (seq: number, type: string, more: { messageId?: string; userId?: string }) => ({
    ...{ conversationId: "c", seq, type, messageId: null, userId: null, atMs: seq * 10 },
    ...more,
  });
  return {
    sends: [send(1, 2, [1, 2]), send(2, 3, [3, 4]), send(3, 7, [4, 6])],
    views: [
      { client: ANNA, userId: ANNA, conversationId: "c", seen: createView() },
      { client: BEN, userId: BEN, conversationId: "c", seen: createView().slice(0, -1) },
    ],
    stored: [
      {
        id: "c",
        lastSeq: 7,
        memberIds: [ANNA],
        messages: [row(2, "a1", "text 1"), row(3, "a2", "text 2"), row(4, null, ANSWER), row(7, "a3", "text 3")],
        events: [
          event(1, "member.added", { userId: BEN }),
          event(5, "message.completed", { messageId: "m4" }),
          event(6, "member.removed", { userId: BEN }),
        ],
      },
    ],
    settled: [{ what: "members online", shown: [ANNA], truth: [ANNA] }],
    stray: [],
    refusals: [],
  };
}

const rulesOf = (history: History): Rule[] => [...new Set(checkHistory(history).map(({ rule }) => rule))];

/** The parts of a history that the cases change. */
function partsOf(history: History) {
  const [view, benView] = history.views;
  const [conversation] = history.stored;
  const [first, second] = history.sends;
  if (!view || !benView || !conversation || !first || !second)
    throw new Error("The history lacks a view, conversation or send.");
  return { history, seen: view.seen, benView, conversation, first, second };
}

test("a correct history breaks no rule", () => {
  expect(checkHistory(createHistory())).toEqual([]);
});

const faults: [name: string, rule: Rule, corrupt: (parts: ReturnType<typeof partsOf>) => void][] = [
  [
    "an acknowledged message that is not stored",
    "lost ack",
    ({ conversation }) => void conversation.messages.splice(0, 1),
  ],
  [
    "a message that is stored twice",
    "doubled message",
    ({ conversation }) => void conversation.messages.push({ ...row(8, "a1", "text 1") }),
  ],
  [
    "content that differs from what was sent",
    "changed message",
    ({ conversation }) => Object.assign(conversation.messages[0] ?? {}, { content: "other" }),
  ],
  [
    "an ack with a different seq than the row",
    "changed message",
    ({ first }) => Object.assign(first.acks[0] ?? {}, { seq: 3 }),
  ],
  [
    "a second ack for a different message",
    "changed message",
    ({ first }) => void first.acks.push({ id: "m9", seq: 2, content: "text 1" }),
  ],
  [
    "a message that was never acknowledged",
    "unacknowledged message",
    ({ first }) => Object.assign(first, { acks: [], ackedStep: null }),
  ],
  [
    "two consecutive messages in swapped order",
    "swapped order",
    ({ first, second }) => {
      [first.acks, second.acks] = [second.acks, first.acks];
    },
  ],
  ["a seq that is not stored", "gap", ({ conversation }) => void conversation.events.splice(0, 1)],
  [
    "a seq that is stored twice",
    "repeat",
    ({ conversation }) => void conversation.events.push({ ...conversation.events[0], seq: 2 } as never),
  ],
  ["a missing push", "gap", ({ seen }) => void seen.splice(2, 1)],
  ["a missing last push", "gap", ({ seen }) => void seen.pop()],
  ["a repeated push", "repeat", ({ seen }) => void seen.splice(3, 0, userMessage(2, 1))],
  ["two pushes in swapped order", "repeat", ({ seen }) => void seen.splice(2, 2, userMessage(3, 2), userMessage(2, 1))],
  [
    "a subscription that skips events",
    "gap",
    ({ seen }) =>
      void seen.splice(3, 1, { type: "subscribed", afterSeq: 2, isRecovered: true, lastSeq: 3, events: [] }),
  ],
  [
    "a few missed events that are not recovered",
    "gap",
    ({ seen }) =>
      void seen.splice(3, 1, { type: "subscribed", afterSeq: 2, isRecovered: false, lastSeq: 3, events: [] }),
  ],
  [
    "a push that differs from the stored event",
    "other event",
    ({ seen }) => void seen.splice(8, 1, push(6, "member.added", { user_id: BEN })),
  ],
  [
    "a push whose text differs from the stored one",
    "wrong text",
    ({ seen }) =>
      void seen.splice(2, 1, push(2, "message.created", { id: "m2", content: "other", status: "complete" })),
  ],
  ["a delta that is missing", "wrong text", ({ seen }) => void seen.splice(6, 1)],
  ["a delta that comes twice", "wrong text", ({ seen }) => void seen.splice(6, 0, delta(0, "Hello, "))],
  ["a delta with a wrong text", "wrong text", ({ seen }) => void seen.splice(6, 1, delta(7, "you three"))],
  ["a new attempt without a reset", "wrong text", ({ seen }) => void seen.splice(6, 1, delta(7, "you two.", 2))],
  ["an older attempt after a newer one", "wrong text", ({ seen }) => void seen.splice(6, 0, reset("Hello, ", 2))],
  ["a delta after the end", "wrong text", ({ seen }) => void seen.splice(8, 0, delta(15, "more"))],
  [
    "an answer that never ends",
    "no end",
    ({ conversation }) => Object.assign(conversation.messages[2] ?? {}, { status: "streaming" }),
  ],
  ["a push to a former member", "not a member", ({ benView }) => void benView.seen.push(userMessage(7, 3))],
  [
    "a frame about a conversation without a subscription",
    "not a member",
    ({ history }) => void history.stray.push({ client: BEN, frame: { type: "typing" } }),
  ],
  ["a permanently refused client", "refused", ({ history }) => void history.refusals.push("anna: not_found")],
  [
    "shown state that differs from the stored state",
    "not settled",
    ({ history }) => void history.settled.push({ what: "inbox", shown: 1, truth: 2 }),
  ],
];

test.each(faults)("the checker finds %s", (_name, rule, corrupt) => {
  const history = createHistory();
  corrupt(partsOf(history));
  expect(rulesOf(history)).toContain(rule);
});

const harmless: [name: string, change: (parts: ReturnType<typeof partsOf>) => void][] = [
  [
    "a reconnect that recovers the missed events",
    ({ seen }) =>
      void seen.splice(6, 2, {
        type: "subscribed",
        afterSeq: 4,
        isRecovered: true,
        lastSeq: 5,
        events: [{ type: "message.completed", seq: 5, data: { id: "m4", content: ANSWER } }],
      }),
  ],
  [
    "an answer that another instance continues",
    ({ seen }) => void seen.splice(6, 1, reset("Hello", 2), delta(5, ", you two.", 2)),
  ],
  ["a removal that is pushed before earlier events", ({ benView }) => void benView.seen.splice(3, 5)],
  [
    "two messages that were sent concurrently",
    ({ history }) => {
      const [, second, third] = history.sends;
      Object.assign(second ?? {}, { sentStep: 5, ackedStep: 7 });
      Object.assign(third ?? {}, { sentStep: 3, ackedStep: 6 });
    },
  ],
];

test.each(harmless)("the checker accepts %s", (_name, change) => {
  const history = createHistory();
  change(partsOf(history));
  expect(checkHistory(history)).toEqual([]);
});
