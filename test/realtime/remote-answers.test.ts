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

const thought = (offset: number, text: string, attempt = 1): BusMessage<string> => ({
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
  const asked: unknown[] = [];
  writer.subscribe("rooms", { onMessage: (message) => void asked.push(message), onGap() {} });
  const frames: { type: string; text?: string; offset?: number; attempt?: number; active?: boolean }[] = [];
  const listener = { userId: createId(), send: (text: string) => void frames.push(JSON.parse(text)) };
  const position = async () => ({ role: "member" as const, lastSeq });
  await hub.join(conversation_id, listener, position, () => {});
  await waitUntil(() => asked.length === 1);
  // Until it has looked whether it missed something, pieces wait.
  const say = (...messages: BusMessage<string>[]) => writer.publish(conversation_id, () => messages);
  const text = (whole: string, attempt = 1) =>
    say({ type: "answer.text", conversation_id, message_id, seq: 1, attempt, text: whole });
  const shown = () =>
    frames.map(({ type, offset, text }) => [
      type.replace("message.", ""),
      ...(offset === undefined ? [] : [offset]),
      text,
    ]);
  return { link, hub, frames, shown, asked, say, text };
}

describe("an answer that another instance writes", () => {
  test("is passed on piece by piece, each once, and is known to whoever comes later", async () => {
    const { say, shown, hub } = await listen();
    say(delta(0, "one "), delta(4, "two "), delta(4, "two "), delta(0, "one "), delta(8, "three"));
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

  test("is passed on with what its model thinks, each part by its own offsets", async () => {
    const { say, frames, hub } = await listen();
    say(
      thought(0, "Hm, "),
      thought(4, "yes."),
      thought(0, "Hm, "),
      delta(0, "one "),
      thought(8, " Or?"),
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

  test("of whose reasoning a piece is missing is asked for as a whole", async () => {
    const { say, frames, asked } = await listen();
    say(thought(0, "Hm, "), thought(8, "Or?"), delta(0, "one "));
    await waitUntil(() => asked.length === 2);
    say({
      type: "answer.text",
      conversation_id,
      message_id,
      seq: 1,
      attempt: 1,
      text: "one ",
      reasoning: "Hm, yes.Or?",
    });
    say(delta(4, "two"));
    await waitUntil(() => frames.length === 3);
    expect(frames.slice(1)).toMatchObject([
      { type: "message.reset", text: "one ", reasoning: "Hm, yes.Or?" },
      { type: "message.delta", offset: 4, text: "two" },
    ]);
  });

  test("that is told again is sent only if its text or its reasoning is new", async () => {
    const { say, frames } = await listen();
    const tell = (reasoning?: string) =>
      say({
        type: "answer.text",
        conversation_id,
        message_id,
        seq: 1,
        attempt: 1,
        text: "one",
        ...(reasoning && { reasoning }),
      });
    tell("Hm.");
    tell("Hm.");
    tell("Hm. Or?");
    say(delta(3, " two"));
    await waitUntil(() => frames.length === 3);
    expect(frames).toMatchObject([
      { type: "message.reset", text: "one", reasoning: "Hm." },
      { type: "message.reset", text: "one", reasoning: "Hm. Or?" },
      { type: "message.delta", offset: 3 },
    ]);
  });

  test("whose message was read with text of it is asked for, if its first piece is of its reasoning", async () => {
    const started = createTestEvent(conversation_id, 1, "message.created", answer("one ", "streaming"));
    const { say, text, frames, asked } = await listen({ lastSeq: 0 });
    say(started);
    await waitUntil(() => frames.length === 1);
    const before = asked.length;
    say(thought(0, "Hm."));
    await waitUntil(() => asked.length > before);
    expect(frames).toHaveLength(1);
    text("one two");
    await waitUntil(() => frames.length === 2);
    expect(frames[1]).toMatchObject({ type: "message.reset", text: "one two" });
  });

  test("of which the beginning is missing is asked for, and nothing of it is sent before its text so far", async () => {
    const { say, text, shown, asked, hub } = await listen();
    say(delta(4, "two "), delta(8, "three "));
    await waitUntil(() => asked.length === 2);
    expect(hub.listSnapshots(conversation_id)).toEqual([]);
    text("one two three ");
    say(delta(14, "four"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([
      ["reset", "one two three "],
      ["delta", 14, "four"],
    ]);
  });

  test("of which a piece is lost goes on with its whole text; who has it is told nothing", async () => {
    const { say, text, shown } = await listen();
    say(delta(0, "one "));
    text("one ");
    say(delta(8, "three"));
    text("one two three");
    text("one two three");
    say(delta(13, "!"));
    await waitUntil(() => shown().length === 3);
    expect(shown()).toEqual([
      ["reset", "one "],
      ["reset", "one two three"],
      ["delta", 13, "!"],
    ]);
  });

  test("starts again with another attempt, and late pieces of the one before are dropped", async () => {
    const { say, text, shown } = await listen();
    say(delta(0, "one "), { type: "message.reset", conversation_id, message_id, attempt: 2, text: "on" });
    // The instance of the first attempt was frozen, and does not know yet that another one goes on.
    say(delta(4, "two"), { type: "message.reset", conversation_id, message_id, attempt: 1, text: "late" });
    text("one two", 1);
    say(delta(2, "ward", 2));
    await waitUntil(() => shown().length === 3);
    expect(shown()).toEqual([
      ["reset", "one "],
      ["reset", "on"],
      ["delta", 2, "ward"],
    ]);
  });

  test("that is not heard yet has no text for whoever comes, whatever the database has of it; then its pieces come", async () => {
    const { say, shown, hub } = await listen({ lastSeq: 0 });
    say(created());
    await waitUntil(() => shown().length === 1);
    expect(hub.listSnapshots(conversation_id)).toMatchObject([{ messageId: message_id, seq: 1, attempt: 1, text: "" }]);
    say(delta(0, "one"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([["created"], ["delta", 0, "one"]]);
  });

  test("whose message was read with a part of its text begins with its text, not with a piece", async () => {
    const { say, shown } = await listen({ lastSeq: 0 });
    say(createTestEvent(conversation_id, 1, "message.created", answer("one ", "streaming")));
    say(delta(0, "one "), delta(4, "two"), completed("one two"));
    await waitUntil(() => shown().length === 4);
    expect(shown()).toEqual([["created"], ["reset", "one "], ["delta", 4, "two"], ["completed"]]);
  });

  test("of which pieces never came is told whole before its end", async () => {
    const { say, shown } = await listen({ lastSeq: 0 });
    say(created(), delta(0, "one "));
    say(completed("one two three"));
    await waitUntil(() => shown().length === 4);
    expect(shown().slice(1)).toEqual([["delta", 0, "one "], ["reset", "one two three"], ["completed"]]);
  });

  test("whose pieces all came ends without being told again", async () => {
    const { say, shown } = await listen({ lastSeq: 0 });
    say(created(), delta(0, "one"), completed("one"));
    await waitUntil(() => shown().length === 3);
    expect(shown().slice(1)).toEqual([["delta", 0, "one"], ["completed"]]);
  });

  test("has no more to say after its end", async () => {
    const { say, text, shown } = await listen({ lastSeq: 0 });
    say(created(), delta(0, "one"), completed("one"));
    text("on");
    say(delta(0, "one"), delta(3, " two"), {
      type: "message.reset",
      conversation_id,
      message_id,
      attempt: 2,
      text: "",
    });
    say(created(3));
    await waitUntil(() => shown().length === 4);
    expect(shown().map(([type]) => type)).toEqual(["created", "delta", "completed", "created"]);
  });

  test("is told only after its message, which may have got lost", async () => {
    const { say, text, shown } = await listen({ lastSeq: 0, stored: [created()] });
    text("one ");
    say(delta(4, "two"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([["created"], ["reset", "one two"]]);
  });

  test("has no more to say if its message is told when it is complete already", async () => {
    const whole = createTestEvent(conversation_id, 1, "message.created", answer("one two", "complete"));
    const { say, shown } = await listen({ lastSeq: 0 });
    say(whole, delta(0, "one "), delta(4, "two"), completed("one two"));
    await waitUntil(() => shown().length === 2);
    expect(shown()).toEqual([["created"], ["completed"]]);
  });

  test("that another instance has taken over is not written by this one any more", async () => {
    const { say, shown, link } = await listen({ lastSeq: 0 });
    const write = (...messages: BusMessage<string>[]) => link.buses[0].publish(conversation_id, () => messages);
    say(created());
    await waitUntil(() => shown().length === 1);
    write(delta(0, "one "));
    say({ type: "message.reset", conversation_id, message_id, attempt: 2, text: "on" });
    await waitUntil(() => shown().length === 3);
    write(delta(4, "late"));
    say(delta(0, "later"), delta(2, "ward", 2));
    await waitUntil(() => shown().length === 4);
    expect(shown().slice(1)).toEqual([
      ["delta", 0, "one "],
      ["reset", "on"],
      ["delta", 2, "ward"],
    ]);
  });
});

test("typing of which nobody tells the end, as the typist's instance has died, ends by itself", async () => {
  const { say, frames } = await listen();
  say({ type: "typing", conversation_id, user_id: createId(), active: true, expires_in_ms: 20 });
  await waitUntil(() => frames.length === 2);
  expect(frames.map(({ active }) => active)).toEqual([true, false]);
});
