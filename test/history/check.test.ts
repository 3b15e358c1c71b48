import { expect, test } from "bun:test";
import type { Frame } from "../support/socket.ts";
import { checkHistory } from "./check.ts";
import type { History, Observation, Rule, Send, StoredMessage } from "./history.ts";

const ANNA = "anna";
const BEN = "ben";
const ANSWER = "Hello, you two.";

const createPush = (seq: number, type: string, data: Record<string, unknown>): Observation => ({
  type: "event",
  event: { type, seq, data } as Frame,
  atMs: seq * 10 + 5,
});
const createMessage = (seq: number, clientMessageId: string | null, content: string): StoredMessage => ({
  id: `m${seq}`,
  conversationId: "c",
  seq,
  role: clientMessageId ? "user" : "assistant",
  clientMessageId,
  content,
  status: "complete",
});
const createSend = (n: number, seq: number, steps: [number, number]): Send => ({
  client: ANNA,
  conversationId: "c",
  clientMessageId: `a${n}`,
  content: `text ${n}`,
  sentStep: steps[0],
  ackedStep: steps[1],
  acks: [{ id: `m${seq}`, seq, content: `text ${n}` }],
});
const createMessagePush = (seq: number, n: number): Observation =>
  createPush(seq, "message.created", { id: `m${seq}`, content: `text ${n}`, status: "complete" });
const createDelta = (offset: number, text: string, attempt = 1): Observation => ({
  type: "text",
  frame: { type: "message.delta", message_id: "m4", attempt, offset, text },
});
const createReset = (text: string, attempt: number): Observation => ({
  type: "text",
  frame: { type: "message.reset", message_id: "m4", attempt, text },
});

/** Creates Anna's view: Ben is added, Anna sends two messages, a model answers, Ben is removed, Anna sends a third message. */
const createView = (): Observation[] => [
  { type: "subscribed", afterSeq: 0, isRecovered: true, lastSeq: 0, events: [] },
  createPush(1, "member.added", { user_id: BEN }),
  createMessagePush(2, 1),
  createMessagePush(3, 2),
  createPush(4, "message.created", { id: "m4", role: "assistant", content: "", status: "streaming" }),
  createDelta(0, "Hello, "),
  createDelta(7, "you two."),
  createPush(5, "message.completed", { id: "m4", content: ANSWER, status: "complete" }),
  createPush(6, "member.removed", { user_id: BEN }),
  createMessagePush(7, 3),
];

function createHistory(): History {
  const createEvent = (seq: number, type: string, fields: { messageId?: string; userId?: string }) => ({
    ...{ conversationId: "c", seq, type, messageId: null, userId: null, atMs: seq * 10 },
    ...fields,
  });
  return {
    sends: [createSend(1, 2, [1, 2]), createSend(2, 3, [3, 4]), createSend(3, 7, [4, 6])],
    views: [
      { client: ANNA, userId: ANNA, conversationId: "c", observations: createView() },
      { client: BEN, userId: BEN, conversationId: "c", observations: createView().slice(0, -1) },
    ],
    stored: [
      {
        id: "c",
        lastSeq: 7,
        memberIds: [ANNA],
        messages: [
          createMessage(2, "a1", "text 1"),
          createMessage(3, "a2", "text 2"),
          createMessage(4, null, ANSWER),
          createMessage(7, "a3", "text 3"),
        ],
        events: [
          createEvent(1, "member.added", { userId: BEN }),
          createEvent(5, "message.completed", { messageId: "m4" }),
          createEvent(6, "member.removed", { userId: BEN }),
        ],
      },
    ],
    comparisons: [{ name: "members online", actual: [ANNA], expected: [ANNA] }],
    unexpectedFrames: [],
    permanentErrors: [],
  };
}

const listRules = (history: History): Rule[] => [...new Set(checkHistory(history).map(({ rule }) => rule))];

/** Returns the parts of a history that the tests change. */
function getHistoryParts(history: History) {
  const [view, benView] = history.views;
  const [conversation] = history.stored;
  const [firstSend, secondSend] = history.sends;
  if (!view || !benView || !conversation || !firstSend || !secondSend)
    throw new Error("The history lacks a view, conversation or send.");
  return { history, observations: view.observations, benView, conversation, firstSend, secondSend };
}

test("a correct history has no violations", () => {
  expect(checkHistory(createHistory())).toEqual([]);
});

const violations: [name: string, rule: Rule, corrupt: (parts: ReturnType<typeof getHistoryParts>) => void][] = [
  [
    "an acknowledged message that isn't stored",
    "lost message",
    ({ conversation }) => void conversation.messages.splice(0, 1),
  ],
  [
    "a message that is stored twice",
    "duplicate message",
    ({ conversation }) => void conversation.messages.push({ ...createMessage(8, "a1", "text 1") }),
  ],
  [
    "content that differs from what was sent",
    "changed message",
    ({ conversation }) => Object.assign(conversation.messages[0] ?? {}, { content: "other" }),
  ],
  [
    "an ack with a different sequence number than the stored message",
    "changed message",
    ({ firstSend }) => Object.assign(firstSend.acks[0] ?? {}, { seq: 3 }),
  ],
  [
    "a second ack for a different message",
    "changed message",
    ({ firstSend }) => void firstSend.acks.push({ id: "m9", seq: 2, content: "text 1" }),
  ],
  [
    "a message that was never acknowledged",
    "unacknowledged message",
    ({ firstSend }) => Object.assign(firstSend, { acks: [], ackedStep: null }),
  ],
  [
    "two consecutive messages in reverse order",
    "incorrect order",
    ({ firstSend, secondSend }) => {
      [firstSend.acks, secondSend.acks] = [secondSend.acks, firstSend.acks];
    },
  ],
  ["a sequence number that isn't stored", "gap", ({ conversation }) => void conversation.events.splice(0, 1)],
  [
    "a sequence number that is stored twice",
    "duplicate",
    ({ conversation }) => void conversation.events.push({ ...conversation.events[0], seq: 2 } as never),
  ],
  ["a missing push", "gap", ({ observations }) => void observations.splice(2, 1)],
  ["a missing last push", "gap", ({ observations }) => void observations.pop()],
  ["a repeated push", "duplicate", ({ observations }) => void observations.splice(3, 0, createMessagePush(2, 1))],
  [
    "two pushes in reverse order",
    "duplicate",
    ({ observations }) => void observations.splice(2, 2, createMessagePush(3, 2), createMessagePush(2, 1)),
  ],
  [
    "a subscription that skips events",
    "gap",
    ({ observations }) =>
      void observations.splice(3, 1, { type: "subscribed", afterSeq: 2, isRecovered: true, lastSeq: 3, events: [] }),
  ],
  [
    "a few missed events that aren't recovered",
    "gap",
    ({ observations }) =>
      void observations.splice(3, 1, { type: "subscribed", afterSeq: 2, isRecovered: false, lastSeq: 3, events: [] }),
  ],
  [
    "a push that differs from the stored event",
    "incorrect event",
    ({ observations }) => void observations.splice(8, 1, createPush(6, "member.added", { user_id: BEN })),
  ],
  [
    "a push whose text differs from the stored text",
    "incorrect text",
    ({ observations }) =>
      void observations.splice(
        2,
        1,
        createPush(2, "message.created", { id: "m2", content: "other", status: "complete" }),
      ),
  ],
  ["a missing delta", "incorrect text", ({ observations }) => void observations.splice(6, 1)],
  [
    "a repeated delta",
    "incorrect text",
    ({ observations }) => void observations.splice(6, 0, createDelta(0, "Hello, ")),
  ],
  [
    "a delta with incorrect text",
    "incorrect text",
    ({ observations }) => void observations.splice(6, 1, createDelta(7, "you three")),
  ],
  [
    "a new attempt without a reset",
    "incorrect text",
    ({ observations }) => void observations.splice(6, 1, createDelta(7, "you two.", 2)),
  ],
  [
    "a delta from an older attempt after a newer one",
    "incorrect text",
    ({ observations }) => void observations.splice(6, 0, createReset("Hello, ", 2)),
  ],
  [
    "a delta after the end of its answer",
    "incorrect text",
    ({ observations }) => void observations.splice(8, 0, createDelta(15, "more")),
  ],
  [
    "an answer that is never finished",
    "unfinished answer",
    ({ conversation }) => Object.assign(conversation.messages[2] ?? {}, { status: "streaming" }),
  ],
  [
    "a push to a former member",
    "not a member",
    ({ benView }) => void benView.observations.push(createMessagePush(7, 3)),
  ],
  [
    "a frame from a conversation that the client hasn't subscribed to",
    "not a member",
    ({ history }) => void history.unexpectedFrames.push({ client: BEN, frame: { type: "typing" } }),
  ],
  ["a permanent error", "permanent error", ({ history }) => void history.permanentErrors.push("anna: not_found")],
  [
    "a client's state that differs from the stored state",
    "outdated view",
    ({ history }) => void history.comparisons.push({ name: "inbox", actual: 1, expected: 2 }),
  ],
];

test.each(violations)("checkHistory finds %s", (_name, rule, corrupt) => {
  const history = createHistory();
  corrupt(getHistoryParts(history));
  expect(listRules(history)).toContain(rule);
});

const validChanges: [name: string, change: (parts: ReturnType<typeof getHistoryParts>) => void][] = [
  [
    "a reconnect that recovers the missed events",
    ({ observations }) =>
      void observations.splice(6, 2, {
        type: "subscribed",
        afterSeq: 4,
        isRecovered: true,
        lastSeq: 5,
        events: [{ type: "message.completed", seq: 5, data: { id: "m4", content: ANSWER } }],
      }),
  ],
  [
    "an answer that another instance continues",
    ({ observations }) => void observations.splice(6, 1, createReset("Hello", 2), createDelta(5, ", you two.", 2)),
  ],
  ["a removal that is pushed before earlier events", ({ benView }) => void benView.observations.splice(3, 5)],
  [
    "two messages that were sent concurrently",
    ({ history }) => {
      const [, secondSend, thirdSend] = history.sends;
      Object.assign(secondSend ?? {}, { sentStep: 5, ackedStep: 7 });
      Object.assign(thirdSend ?? {}, { sentStep: 3, ackedStep: 6 });
    },
  ],
];

test.each(validChanges)("checkHistory accepts %s", (_name, change) => {
  const history = createHistory();
  change(getHistoryParts(history));
  expect(checkHistory(history)).toEqual([]);
});
