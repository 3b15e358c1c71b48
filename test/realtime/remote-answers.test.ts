import { describe, expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import type { DurableEvent, EphemeralEvent } from "../../src/protocol/events.ts";
import type { BusMessage } from "../../src/realtime/bus.ts";
import { createTestEvent } from "../support/events.ts";
import { createTestHub } from "../support/hub.ts";
import { linkBuses } from "../support/linked-buses.ts";
import { waitUntil } from "../support/wait-until.ts";

const conversation_id = createId();
const message_id = createId();

const delta = (offset: number, text: string, attempt = 1): EphemeralEvent<"message.delta"> => ({
  type: "message.delta",
  conversation_id,
  message_id,
  attempt,
  offset,
  text,
});

const reasoning = (offset: number, text: string, attempt = 1): BusMessage<string> => ({
  ...{ conversation_id, message_id, attempt, offset, text },
  type: "answer.reasoning",
});

const answer = (content: string, status: "streaming" | "complete") => ({
  id: message_id,
  role: "assistant",
  content,
  status,
});
const created = (seq = 1) => createTestEvent(conversation_id, seq, "message.created", answer("", "streaming"));
const completed = (content: string, seq = 2) =>
  createTestEvent(conversation_id, seq, "message.completed", answer(content, "complete"));

/** A hub with one listener, on one end of a link; the other end is the instance that writes. */
async function listen({ lastSeq = 1, stored = [] }: { lastSeq?: number; stored?: DurableEvent[] } = {}) {
  const link = linkBuses();
  const loadEvents = async () => stored;
  const hub = createTestHub({ bus: link.buses[0], instanceId: "reader", loadEvents });
  const writer = link.buses[1];
  const requests: unknown[] = [];
  writer.subscribe("rooms", { onMessage: (message) => void requests.push(message), onGap() {} });
  const frames: { type: string; text?: string; offset?: number; attempt?: number; active?: boolean }[] = [];
  const listener = { userId: createId(), send: (text: string) => void frames.push(JSON.parse(text)) };
  const position = async () => ({ role: "member" as const, lastSeq });
  await hub.join(conversation_id, listener, position, () => {});
  await waitUntil(() => requests.length === 1);
  // Deltas wait until it has checked whether it missed anything.
  const publish = (...messages: BusMessage<string>[]) => writer.publish(conversation_id, () => messages);
  const text = (whole: string, attempt = 1) =>
    publish({ type: "answer.text", conversation_id, message_id, seq: 1, attempt, text: whole });
  const shown = () =>
    frames.map(({ type, offset, text }) => [
      type.replace("message.", ""),
      ...(offset === undefined ? [] : [offset]),
      text,
    ]);
  return { link, hub, frames, shown, requests, publish, text };
}

describe("an answer that another instance writes", () => {
  test("is passed on delta by delta, each once, and late readers get its text so far", async () => {
    const { publish, shown, hub } = await listen();
    publish(delta(0, "one "), delta(4, "two "), delta(4, "two "), delta(0, "one "), delta(8, "three"));
    await waitUntil(() => shown().length === 3);
    expect(shown()).toEqual([
      ["reset", "one "],
      ["delta", 4, "two "],
      ["delta", 8, "three"],
    ]);
    expect(hub.listSnapshots(conversation_id)).toMatchObject([
      { messageId: message_id, attempt: 1, text: "one two three" },
    ]);
  });

  test("is passed on with its reasoning, each part with its own offsets", async () => {
    const { publish, frames, hub } = await listen();
    publish(
      reasoning(0, "Hm, "),
      reasoning(4, "yes."),
      reasoning(0, "Hm, "),
      delta(0, "one "),
      reasoning(8, " Or?"),
      delta(4, "two"),
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

  test("is requested as a whole if a reasoning delta is missing", async () => {
    const { publish, frames, requests } = await listen();
    publish(reasoning(0, "Hm, "), reasoning(8, "Or?"), delta(0, "one "));
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
    publish(delta(4, "two"));
    await waitUntil(() => frames.length === 3);
    expect(frames.slice(1)).toMatchObject([
      { type: "message.reset", text: "one ", reasoning: "Hm, yes.Or?" },
      { type: "message.delta", offset: 4, text: "two" },
    ]);
  });

  test("is pushed again only if its text or its reasoning is new", async () => {
    const { publish, frames } = await listen();
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
    publish(delta(3, " two"));
    await waitUntil(() => frames.length === 3);
    expect(frames).toMatchObject([
      { type: "message.reset", text: "one", reasoning: "Hm." },
      { type: "message.reset", text: "one", reasoning: "Hm. Or?" },
      { type: "message.delta", offset: 3 },
    ]);
  });

  test("is requested if its first delta is reasoning, and its message was read with text", async () => {
    const started = createTestEvent(conversation_id, 1, "message.created", answer("one ", "streaming"));
    const { publish, text, frames, requests } = await listen({ lastSeq: 0 });
    publish(started);
    await waitUntil(() => frames.length === 1);
    const before = requests.length;
    publish(reasoning(0, "Hm."));
    await waitUntil(() => requests.length > before);
    expect(frames).toHaveLength(1);
    text("one two");
    await waitUntil(() => frames.length === 2);
    expect(frames[1]).toMatchObject({ type: "message.reset", text: "one two" });
  });

  test("is requested if its beginning is missing, and nothing is sent before its text so far", async () => {
    const { publish, text, shown, requests, hub } = await listen();
    publish(delta(4, "two "), delta(8, "three "));
    await waitUntil(() => requests.length === 2);
    expect(hub.listSnapshots(conversation_id)).toEqual([]);
    text("one two three ");
    publish(delta(14, "four"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([
      ["reset", "one two three "],
      ["delta", 14, "four"],
    ]);
  });

  test("continues with its whole text after a lost delta; readers who have it receive nothing", async () => {
    const { publish, text, shown } = await listen();
    publish(delta(0, "one "));
    text("one ");
    publish(delta(8, "three"));
    text("one two three");
    text("one two three");
    publish(delta(13, "!"));
    await waitUntil(() => shown().length === 3);
    expect(shown()).toEqual([
      ["reset", "one "],
      ["reset", "one two three"],
      ["delta", 13, "!"],
    ]);
  });

  test("restarts with a new attempt, and late deltas of the previous one are dropped", async () => {
    const { publish, text, shown } = await listen();
    publish(delta(0, "one "), { type: "message.reset", conversation_id, message_id, attempt: 2, text: "on" });
    // The instance of the first attempt was frozen, and doesn't know yet that another one took over.
    publish(delta(4, "two"), { type: "message.reset", conversation_id, message_id, attempt: 1, text: "late" });
    text("one two", 1);
    publish(delta(2, "ward", 2));
    await waitUntil(() => shown().length === 3);
    expect(shown()).toEqual([
      ["reset", "one "],
      ["reset", "on"],
      ["delta", 2, "ward"],
    ]);
  });

  test("without any delta so far starts late readers without text, whatever the database has; then its deltas follow", async () => {
    const { publish, shown, hub } = await listen({ lastSeq: 0 });
    publish(created());
    await waitUntil(() => shown().length === 1);
    expect(hub.listSnapshots(conversation_id)).toMatchObject([{ messageId: message_id, seq: 1, attempt: 1, text: "" }]);
    publish(delta(0, "one"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([["created"], ["delta", 0, "one"]]);
  });

  test("begins with its text, not with a delta, if its message was read with part of its text", async () => {
    const { publish, shown } = await listen({ lastSeq: 0 });
    publish(createTestEvent(conversation_id, 1, "message.created", answer("one ", "streaming")));
    publish(delta(0, "one "), delta(4, "two"), completed("one two"));
    await waitUntil(() => shown().length === 4);
    expect(shown()).toEqual([["created"], ["reset", "one "], ["delta", 4, "two"], ["completed"]]);
  });

  test("is sent whole before its end if deltas never arrived", async () => {
    const { publish, shown } = await listen({ lastSeq: 0 });
    publish(created(), delta(0, "one "));
    publish(completed("one two three"));
    await waitUntil(() => shown().length === 4);
    expect(shown().slice(1)).toEqual([["delta", 0, "one "], ["reset", "one two three"], ["completed"]]);
  });

  test("ends without being sent again if all deltas arrived", async () => {
    const { publish, shown } = await listen({ lastSeq: 0 });
    publish(created(), delta(0, "one"), completed("one"));
    await waitUntil(() => shown().length === 3);
    expect(shown().slice(1)).toEqual([["delta", 0, "one"], ["completed"]]);
  });

  test("sends nothing after its end", async () => {
    const { publish, text, shown } = await listen({ lastSeq: 0 });
    publish(created(), delta(0, "one"), completed("one"));
    text("on");
    publish(delta(0, "one"), delta(3, " two"), {
      type: "message.reset",
      conversation_id,
      message_id,
      attempt: 2,
      text: "",
    });
    publish(created(3));
    await waitUntil(() => shown().length === 4);
    expect(shown().map(([type]) => type)).toEqual(["created", "delta", "completed", "created"]);
  });

  test("is sent only after its message, which may have been lost", async () => {
    const { publish, text, shown } = await listen({ lastSeq: 0, stored: [created()] });
    text("one ");
    publish(delta(4, "two"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([["created"], ["reset", "one two"]]);
  });

  test("sends nothing more if its message arrives when it is already complete", async () => {
    const whole = createTestEvent(conversation_id, 1, "message.created", answer("one two", "complete"));
    const { publish, shown } = await listen({ lastSeq: 0 });
    publish(whole, delta(0, "one "), delta(4, "two"), completed("one two"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([["created"], ["completed"]]);
  });

  test("that another instance took over is no longer written by this one", async () => {
    const { publish, shown, link } = await listen({ lastSeq: 0 });
    const write = (...messages: BusMessage<string>[]) => link.buses[0].publish(conversation_id, () => messages);
    publish(created());
    await waitUntil(() => shown().length === 1);
    write(delta(0, "one "));
    publish({ type: "message.reset", conversation_id, message_id, attempt: 2, text: "on" });
    await waitUntil(() => shown().length === 3);
    write(delta(4, "late"));
    publish(delta(0, "later"), delta(2, "ward", 2));
    await waitUntil(() => shown().length === 4);
    expect(shown().slice(1)).toEqual([
      ["delta", 0, "one "],
      ["reset", "on"],
      ["delta", 2, "ward"],
    ]);
  });
});

test("typing whose end is never sent, because the typist's instance died, expires", async () => {
  const { publish, frames } = await listen();
  publish({ type: "typing", conversation_id, user_id: createId(), active: true, expires_in_ms: 20 });
  await waitUntil(() => frames.length === 2);
  expect(frames.map(({ active }) => active)).toEqual([true, false]);
});
