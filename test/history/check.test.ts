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
const said = (seq: number, n: number): Seen =>
  push(seq, "message.created", { id: `m${seq}`, content: `text ${n}`, status: "complete" });
const piece = (offset: number, text: string, attempt = 1): Seen => ({
  type: "text",
  frame: { type: "message.delta", message_id: "m4", attempt, offset, text },
});
const reset = (text: string, attempt: number): Seen => ({
  type: "text",
  frame: { type: "message.reset", message_id: "m4", attempt, text },
});

/** What Anna sees of: Ben is added, two messages, an answer, Ben is removed, a third message. */
const annasView = (): Seen[] => [
  { type: "subscribed", afterSeq: 0, isRecovered: true, lastSeq: 0, events: [] },
  push(1, "member.added", { user_id: BEN }),
  said(2, 1),
  said(3, 2),
  push(4, "message.created", { id: "m4", role: "assistant", content: "", status: "streaming" }),
  piece(0, "Hello, "),
  piece(7, "you two."),
  push(5, "message.completed", { id: "m4", content: ANSWER, status: "complete" }),
  push(6, "member.removed", { user_id: BEN }),
  said(7, 3),
];

function createHistory(): History {
  const event = (seq: number, type: string, more: { messageId?: string; userId?: string }) => ({
    ...{ conversationId: "c", seq, type, messageId: null, userId: null, atMs: seq * 10 },
    ...more,
  });
  return {
    sends: [send(1, 2, [1, 2]), send(2, 3, [3, 4]), send(3, 7, [4, 6])],
    views: [
      { client: ANNA, userId: ANNA, conversationId: "c", seen: annasView() },
      { client: BEN, userId: BEN, conversationId: "c", seen: annasView().slice(0, -1) },
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
    settled: [{ what: "members online", told: [ANNA], truth: [ANNA] }],
    stray: [],
    refusals: [],
  };
}

const rulesOf = (history: History): Rule[] => [...new Set(checkHistory(history).map(({ rule }) => rule))];

/** The parts of a history that the cases change. */
function partsOf(history: History) {
  const [view, bens] = history.views;
  const [conversation] = history.stored;
  const [first, second] = history.sends;
  if (!view || !bens || !conversation || !first || !second) throw new Error("The history has all of these.");
  return { history, seen: view.seen, bens, conversation, first, second };
}

test("a history without fault breaks no rule", () => {
  expect(checkHistory(createHistory())).toEqual([]);
});

const faults: [name: string, rule: Rule, spoil: (parts: ReturnType<typeof partsOf>) => void][] = [
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
    "other content than was sent",
    "changed message",
    ({ conversation }) => Object.assign(conversation.messages[0] ?? {}, { content: "other" }),
  ],
  [
    "an ack with another number than the row",
    "changed message",
    ({ first }) => Object.assign(first.acks[0] ?? {}, { seq: 3 }),
  ],
  [
    "a second ack that says another message",
    "changed message",
    ({ first }) => void first.acks.push({ id: "m9", seq: 2, content: "text 1" }),
  ],
  [
    "a message that never got its ack",
    "unacknowledged message",
    ({ first }) => Object.assign(first, { acks: [], ackedStep: null }),
  ],
  [
    "two messages, one after the other, in the other order",
    "swapped order",
    ({ first, second }) => {
      [first.acks, second.acks] = [second.acks, first.acks];
    },
  ],
  ["a number that is not stored", "gap", ({ conversation }) => void conversation.events.splice(0, 1)],
  [
    "a number that is stored twice",
    "repeat",
    ({ conversation }) => void conversation.events.push({ ...conversation.events[0], seq: 2 } as never),
  ],
  ["a push that is missing", "gap", ({ seen }) => void seen.splice(2, 1)],
  ["the last push missing", "gap", ({ seen }) => void seen.pop()],
  ["a push that comes twice", "repeat", ({ seen }) => void seen.splice(3, 0, said(2, 1))],
  ["two pushes in the other order", "repeat", ({ seen }) => void seen.splice(2, 2, said(3, 2), said(2, 1))],
  [
    "a subscription that leaves events out",
    "gap",
    ({ seen }) =>
      void seen.splice(3, 1, { type: "subscribed", afterSeq: 2, isRecovered: true, lastSeq: 3, events: [] }),
  ],
  [
    "few missed events that are not recovered",
    "gap",
    ({ seen }) =>
      void seen.splice(3, 1, { type: "subscribed", afterSeq: 2, isRecovered: false, lastSeq: 3, events: [] }),
  ],
  [
    "a push of another event than the stored one",
    "other event",
    ({ seen }) => void seen.splice(8, 1, push(6, "member.added", { user_id: BEN })),
  ],
  [
    "a push with other text than the stored one",
    "wrong text",
    ({ seen }) =>
      void seen.splice(2, 1, push(2, "message.created", { id: "m2", content: "other", status: "complete" })),
  ],
  ["a piece that is missing", "wrong text", ({ seen }) => void seen.splice(6, 1)],
  ["a piece that comes twice", "wrong text", ({ seen }) => void seen.splice(6, 0, piece(0, "Hello, "))],
  ["a piece with a wrong text", "wrong text", ({ seen }) => void seen.splice(6, 1, piece(7, "you three"))],
  ["a further attempt without a reset", "wrong text", ({ seen }) => void seen.splice(6, 1, piece(7, "you two.", 2))],
  ["an attempt after a later one", "wrong text", ({ seen }) => void seen.splice(6, 0, reset("Hello, ", 2))],
  ["a piece after the end", "wrong text", ({ seen }) => void seen.splice(8, 0, piece(15, "more"))],
  [
    "an answer that never ends",
    "no end",
    ({ conversation }) => Object.assign(conversation.messages[2] ?? {}, { status: "streaming" }),
  ],
  ["a push to somebody who is no member any more", "not a member", ({ bens }) => void bens.seen.push(said(7, 3))],
  [
    "a frame of a conversation without a subscription",
    "not a member",
    ({ history }) => void history.stray.push({ client: BEN, frame: { type: "typing" } }),
  ],
  ["a client that is refused for good", "refused", ({ history }) => void history.refusals.push("anna: not_found")],
  [
    "what is shown other than it is",
    "not settled",
    ({ history }) => void history.settled.push({ what: "inbox", told: 1, truth: 2 }),
  ],
];

test.each(faults)("the checker finds %s", (_name, rule, spoil) => {
  const history = createHistory();
  spoil(partsOf(history));
  expect(rulesOf(history)).toContain(rule);
});

const harmless: [name: string, change: (parts: ReturnType<typeof partsOf>) => void][] = [
  [
    "a reconnect that recovers what was missed",
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
    "an answer that another instance goes on with",
    ({ seen }) => void seen.splice(6, 1, reset("Hello", 2), piece(5, ", you two.", 2)),
  ],
  ["a removal that is told before what came before it", ({ bens }) => void bens.seen.splice(3, 5)],
  [
    "two messages that were under way at the same time",
    ({ history }) => {
      const [, second, third] = history.sends;
      Object.assign(second ?? {}, { sentStep: 5, ackedStep: 7 });
      Object.assign(third ?? {}, { sentStep: 3, ackedStep: 6 });
    },
  ],
];

test.each(harmless)("the checker has nothing against %s", (_name, change) => {
  const history = createHistory();
  change(partsOf(history));
  expect(checkHistory(history)).toEqual([]);
});
