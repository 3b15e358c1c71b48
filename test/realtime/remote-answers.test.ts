import { describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { DurableEvent, EphemeralEvent } from "../../src/protocol/events.ts";
import type { BusMessage } from "../../src/realtime/bus.ts";
import { createLinkedBuses } from "../support/linked-buses.ts";
import { createTestEvent } from "../support/test-events.ts";
import { createTestHub } from "../support/test-hub.ts";
import { waitUntil } from "../support/wait-until.ts";

const conversation_id = createId();
const message_id = createId();

const createDelta = (offset: number, text: string, attempt = 1): EphemeralEvent<"message.delta"> => ({
  type: "message.delta",
  conversation_id,
  message_id,
  attempt,
  offset,
  text,
});

const createReasoningDelta = (offset: number, text: string, attempt = 1): BusMessage<string> => ({
  ...{ conversation_id, message_id, attempt, offset, text },
  type: "answer.reasoning",
});

const createAnswerData = (content: string, status: "streaming" | "complete") => ({
  id: message_id,
  role: "assistant",
  content,
  status,
});
const createStartEvent = (seq = 1) =>
  createTestEvent(conversation_id, seq, "message.created", createAnswerData("", "streaming"));
const createEndEvent = (content: string, seq = 2) =>
  createTestEvent(conversation_id, seq, "message.completed", createAnswerData(content, "complete"));

/** Creates a hub with one listener, linked to the instance that generates the answer. */
async function createListeningHub({ lastSeq = 1, stored = [] }: { lastSeq?: number; stored?: DurableEvent[] } = {}) {
  const link = createLinkedBuses();
  const loadEvents = async () => stored;
  const hub = createTestHub({ bus: link.buses[0], instanceId: "reader", loadEvents });
  const writer = link.buses[1];
  const requests: unknown[] = [];
  writer.subscribe("rooms", { onMessage: (message) => void requests.push(message), onGap() {} });
  const frames: { type: string; text?: string; offset?: number; attempt?: number; active?: boolean }[] = [];
  const listener = { userId: createId(), send: (text: string) => void frames.push(JSON.parse(text)) };
  const readPosition = async () => ({ role: "member" as const, lastSeq });
  await hub.join(conversation_id, listener, readPosition, () => {});
  // The hub holds back deltas until it has requested those that it may have missed.
  await waitUntil(() => requests.length === 1);
  const publish = (...messages: BusMessage<string>[]) => writer.publish(conversation_id, () => messages);
  const publishText = (text: string, attempt = 1) =>
    publish({ type: "answer.text", conversation_id, message_id, seq: 1, attempt, text });
  const listFrames = () =>
    frames.map(({ type, offset, text }) => [
      type.replace("message.", ""),
      ...(offset === undefined ? [] : [offset]),
      text,
    ]);
  return { link, hub, frames, listFrames, requests, publish, publishText };
}

describe("an answer from another instance", () => {
  test("is sent delta by delta, each delta once, and late readers get the text so far", async () => {
    const { publish, listFrames, hub } = await createListeningHub();
    publish(
      createDelta(0, "one "),
      createDelta(4, "two "),
      createDelta(4, "two "),
      createDelta(0, "one "),
      createDelta(8, "three"),
    );
    await waitUntil(() => listFrames().length === 3);
    expect(listFrames()).toEqual([
      ["reset", "one "],
      ["delta", 4, "two "],
      ["delta", 8, "three"],
    ]);
    expect(hub.listSnapshots(conversation_id)).toMatchObject([
      { messageId: message_id, attempt: 1, text: "one two three" },
    ]);
  });

  test("is sent with its reasoning, which has separate offsets", async () => {
    const { publish, frames, hub } = await createListeningHub();
    publish(
      createReasoningDelta(0, "Hm, "),
      createReasoningDelta(4, "yes."),
      createReasoningDelta(0, "Hm, "),
      createDelta(0, "one "),
      createReasoningDelta(8, " Or?"),
      createDelta(4, "two"),
    );
    await waitUntil(() => frames.length === 5);
    expect(frames).toMatchObject([
      { type: "message.reset", text: "", reasoning: "Hm, " },
      { type: "message.delta", part: "reasoning", offset: 4, text: "yes." },
      { type: "message.delta", offset: 0, text: "one " },
      { type: "message.delta", part: "reasoning", offset: 8, text: " Or?" },
      { type: "message.delta", offset: 4, text: "two" },
    ]);
    expect(frames[2]).not.toHaveProperty("part");
    const [snapshot] = hub.listSnapshots(conversation_id);
    expect(snapshot).toMatchObject({ text: "one two", reasoning: "Hm, yes. Or?" });
    expect(JSON.parse(String(snapshot?.frame))).toMatchObject({ text: "one two", reasoning: "Hm, yes. Or?" });
  });

  test("is requested from its start if a reasoning delta is missing", async () => {
    const { publish, frames, requests } = await createListeningHub();
    publish(createReasoningDelta(0, "Hm, "), createReasoningDelta(8, "Or?"), createDelta(0, "one "));
    await waitUntil(() => requests.length === 2);
    publish({
      type: "answer.text",
      conversation_id,
      message_id,
      seq: 1,
      attempt: 1,
      text: "one ",
      reasoning: "Hm, yes.Or?",
    });
    publish(createDelta(4, "two"));
    await waitUntil(() => frames.length === 3);
    expect(frames.slice(1)).toMatchObject([
      { type: "message.reset", text: "one ", reasoning: "Hm, yes.Or?" },
      { type: "message.delta", offset: 4, text: "two" },
    ]);
  });

  test("is pushed again only if its text or its reasoning is new", async () => {
    const { publish, frames } = await createListeningHub();
    const publishSnapshot = (reasoning?: string) =>
      publish({
        type: "answer.text",
        conversation_id,
        message_id,
        seq: 1,
        attempt: 1,
        text: "one",
        ...(reasoning && { reasoning }),
      });
    publishSnapshot("Hm.");
    publishSnapshot("Hm.");
    publishSnapshot("Hm. Or?");
    publish(createDelta(3, " two"));
    await waitUntil(() => frames.length === 3);
    expect(frames).toMatchObject([
      { type: "message.reset", text: "one", reasoning: "Hm." },
      { type: "message.reset", text: "one", reasoning: "Hm. Or?" },
      { type: "message.delta", offset: 3 },
    ]);
  });

  test("is requested if its message already had text and its first delta is reasoning", async () => {
    const createdEvent = createTestEvent(conversation_id, 1, "message.created", createAnswerData("one ", "streaming"));
    const { publish, publishText, frames, requests } = await createListeningHub({ lastSeq: 0 });
    publish(createdEvent);
    await waitUntil(() => frames.length === 1);
    const requestCountBefore = requests.length;
    publish(createReasoningDelta(0, "Hm."));
    await waitUntil(() => requests.length > requestCountBefore);
    expect(frames).toHaveLength(1);
    publishText("one two");
    await waitUntil(() => frames.length === 2);
    expect(frames[1]).toMatchObject({ type: "message.reset", text: "one two" });
  });

  test("is requested if its first deltas are missing, and no deltas are sent before the text so far", async () => {
    const { publish, publishText, listFrames, requests, hub } = await createListeningHub();
    publish(createDelta(4, "two "), createDelta(8, "three "));
    await waitUntil(() => requests.length === 2);
    expect(hub.listSnapshots(conversation_id)).toEqual([]);
    publishText("one two three ");
    publish(createDelta(14, "four"));
    await waitUntil(() => listFrames().length === 2);
    expect(listFrames()).toEqual([
      ["reset", "one two three "],
      ["delta", 14, "four"],
    ]);
  });

  test("is sent from its start after a lost delta, except to readers who already have the text", async () => {
    const { publish, publishText, listFrames } = await createListeningHub();
    publish(createDelta(0, "one "));
    publishText("one ");
    publish(createDelta(8, "three"));
    publishText("one two three");
    publishText("one two three");
    publish(createDelta(13, "!"));
    await waitUntil(() => listFrames().length === 3);
    expect(listFrames()).toEqual([
      ["reset", "one "],
      ["reset", "one two three"],
      ["delta", 13, "!"],
    ]);
  });

  test("restarts with a new attempt, and late deltas from the previous attempt are dropped", async () => {
    const { publish, publishText, listFrames } = await createListeningHub();
    publish(createDelta(0, "one "), { type: "message.reset", conversation_id, message_id, attempt: 2, text: "on" });
    // The first attempt's instance was frozen, and doesn't know yet that another instance took over.
    publish(createDelta(4, "two"), { type: "message.reset", conversation_id, message_id, attempt: 1, text: "late" });
    publishText("one two", 1);
    publish(createDelta(2, "ward", 2));
    await waitUntil(() => listFrames().length === 3);
    expect(listFrames()).toEqual([
      ["reset", "one "],
      ["reset", "on"],
      ["delta", 2, "ward"],
    ]);
  });

  test("starts empty for readers who join before its first delta, even if the database has text", async () => {
    const { publish, listFrames, hub } = await createListeningHub({ lastSeq: 0 });
    publish(createStartEvent());
    await waitUntil(() => listFrames().length === 1);
    expect(hub.listSnapshots(conversation_id)).toMatchObject([{ messageId: message_id, seq: 1, attempt: 1, text: "" }]);
    publish(createDelta(0, "one"));
    await waitUntil(() => listFrames().length === 2);
    expect(listFrames()).toEqual([["created"], ["delta", 0, "one"]]);
  });

  test("starts with its whole text instead of a delta if its message already had text", async () => {
    const { publish, listFrames } = await createListeningHub({ lastSeq: 0 });
    publish(createTestEvent(conversation_id, 1, "message.created", createAnswerData("one ", "streaming")));
    publish(createDelta(0, "one "), createDelta(4, "two"), createEndEvent("one two"));
    await waitUntil(() => listFrames().length === 4);
    expect(listFrames()).toEqual([["created"], ["reset", "one "], ["delta", 4, "two"], ["completed"]]);
  });

  test("is sent from its start, before the completed event, if deltas were lost", async () => {
    const { publish, listFrames } = await createListeningHub({ lastSeq: 0 });
    publish(createStartEvent(), createDelta(0, "one "));
    publish(createEndEvent("one two three"));
    await waitUntil(() => listFrames().length === 4);
    expect(listFrames().slice(1)).toEqual([["delta", 0, "one "], ["reset", "one two three"], ["completed"]]);
  });

  test("ends without being sent again if all deltas arrived", async () => {
    const { publish, listFrames } = await createListeningHub({ lastSeq: 0 });
    publish(createStartEvent(), createDelta(0, "one"), createEndEvent("one"));
    await waitUntil(() => listFrames().length === 3);
    expect(listFrames().slice(1)).toEqual([["delta", 0, "one"], ["completed"]]);
  });

  test("is not continued after its end", async () => {
    const { publish, publishText, listFrames } = await createListeningHub({ lastSeq: 0 });
    publish(createStartEvent(), createDelta(0, "one"), createEndEvent("one"));
    publishText("on");
    publish(createDelta(0, "one"), createDelta(3, " two"), {
      type: "message.reset",
      conversation_id,
      message_id,
      attempt: 2,
      text: "",
    });
    publish(createStartEvent(3));
    await waitUntil(() => listFrames().length === 4);
    expect(listFrames().map(([type]) => type)).toEqual(["created", "delta", "completed", "created"]);
  });

  test("is sent only after its message, even if the message was lost", async () => {
    const { publish, publishText, listFrames } = await createListeningHub({ lastSeq: 0, stored: [createStartEvent()] });
    publishText("one ");
    publish(createDelta(4, "two"));
    await waitUntil(() => listFrames().length === 2);
    expect(listFrames()).toEqual([["created"], ["reset", "one two"]]);
  });

  test("is not streamed if its message is already complete", async () => {
    const createdEvent = createTestEvent(
      conversation_id,
      1,
      "message.created",
      createAnswerData("one two", "complete"),
    );
    const { publish, listFrames } = await createListeningHub({ lastSeq: 0 });
    publish(createdEvent, createDelta(0, "one "), createDelta(4, "two"), createEndEvent("one two"));
    await waitUntil(() => listFrames().length === 2);
    expect(listFrames()).toEqual([["created"], ["completed"]]);
  });

  test("that replaces a local attempt is not overwritten by late deltas of the local attempt", async () => {
    const { publish, listFrames, link } = await createListeningHub({ lastSeq: 0 });
    const publishLocally = (...messages: BusMessage<string>[]) =>
      link.buses[0].publish(conversation_id, () => messages);
    publish(createStartEvent());
    await waitUntil(() => listFrames().length === 1);
    publishLocally(createDelta(0, "one "));
    publish({ type: "message.reset", conversation_id, message_id, attempt: 2, text: "on" });
    await waitUntil(() => listFrames().length === 3);
    publishLocally(createDelta(4, "late"));
    publish(createDelta(0, "later"), createDelta(2, "ward", 2));
    await waitUntil(() => listFrames().length === 4);
    expect(listFrames().slice(1)).toEqual([
      ["delta", 0, "one "],
      ["reset", "on"],
      ["delta", 2, "ward"],
    ]);
  });
});

test("typing expires if the user's instance crashes without sending a stop", async () => {
  const { publish, frames } = await createListeningHub();
  publish({ type: "typing", conversation_id, user_id: createId(), active: true, expires_in_ms: 20 });
  await waitUntil(() => frames.length === 2);
  expect(frames.map(({ active }) => active)).toEqual([true, false]);
});
