import { expect, test } from "bun:test";
import { createId } from "../../src/lib/id.ts";
import { createReplyStream } from "../../src/modules/messages/reply-stream.ts";
import type { DurableEvent, EphemeralEvent } from "../../src/protocol/events.ts";
import type { Message } from "../../src/protocol/message.ts";

const conversation_id = createId();
const at = "2026-01-01T00:00:00.000Z";

const createMessage = (seq: number, role: "user" | "assistant", content: string): Message => ({
  ...{ id: createId(), conversation_id, seq, role, author: null, supplied: false, content },
  status: role === "user" ? "complete" : "streaming",
  ...{ model: null, finish_reason: null, usage: null, parent_id: null, client_message_id: null, error: null },
  ...{ reasoning: null, output: null },
  ...{ metadata: {}, created_at: at, updated_at: at, deleted_at: null },
});

/** Returns the deltas sent to a reader who joins after the answer ended, when this instance no longer has a snapshot of it. */
async function listDeltas(initialText: string, deltas: [offset: number, text: string][], attempt = 1) {
  const question = createMessage(1, "user", "?");
  const answer = createMessage(2, "assistant", initialText);
  const frames: { type: string; offset?: number; text?: string }[] = [];
  const stream = createReplyStream({
    write: (text) => frames.push(JSON.parse(/^data: (.*)$/m.exec(text)?.[1] ?? "")),
    end: () => frames.push({ type: "end" }),
    findCompletion: async () => null,
    findSnapshot: () => undefined,
  });
  const pushEvent = (event: DurableEvent | EphemeralEvent) => stream.onPush(JSON.stringify(event));
  for (const [offset, text] of deltas)
    pushEvent({ type: "message.delta", conversation_id, message_id: answer.id, attempt, offset, text });
  const final = { ...answer, content: "0123456789ab", status: "complete" as const };
  pushEvent({ type: "message.completed", conversation_id, seq: 3, at, data: final });
  await stream.start({ message: question, reply: answer }, true);
  expect(frames.map(({ type }) => type).slice(0, 2)).toEqual(["message.created", "message.created"]);
  expect(frames.map(({ type }) => type).slice(-2)).toEqual(["message.completed", "end"]);
  return frames.slice(2, -2).map(({ offset, text }) => [offset, text]);
}

test("text that is already in the message is not repeated by deltas in flight", async () => {
  expect(await listDeltas("0123456789", [[5, "56789"]])).toEqual([]);
  expect(await listDeltas("0123456789", [[5, "56789ab"]])).toEqual([[10, "ab"]]);
  expect(
    await listDeltas("0123456789", [
      [0, "0123"],
      [4, "4567"],
      [8, "89a"],
      [11, "b"],
    ]),
  ).toEqual([
    [10, "a"],
    [11, "b"],
  ]);
  expect(await listDeltas("", [[0, "0123456789ab"]])).toEqual([[0, "0123456789ab"]]);
  // Text after a gap is not sent, because the completion has the whole text.
  expect(
    await listDeltas("01", [
      [5, "56789"],
      [10, "ab"],
    ]),
  ).toEqual([]);
});
