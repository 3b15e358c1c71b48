import { expect, test } from "bun:test";
import { FLUSH_MS_MIN } from "../../src/modules/generations/flush-interval.ts";
import { createFlushScheduler } from "../../src/modules/generations/flush-scheduler.ts";
import { LiveAnswer } from "../../src/modules/generations/live-answer.ts";
import type { EphemeralEvent } from "../../src/protocol/events.ts";

function createLiveAnswer({ shouldStoreReasoning = true } = {}) {
  const deltas: Extract<EphemeralEvent, { type: "message.delta" }>[] = [];
  const publish = (_topic: string, create: () => Iterable<unknown>) => {
    deltas.push(...(create() as typeof deltas));
  };
  const liveAnswer = new LiveAnswer({
    conversationId: "conversation",
    messageId: "message",
    seq: 2,
    attempt: 1,
    text: "",
    reasoning: "",
    shouldStoreReasoning,
    bus: { publish } as never,
    flushScheduler: createFlushScheduler(() => FLUSH_MS_MIN),
  });
  return { liveAnswer, deltas };
}

/** Expects every delta to start where the previous one ended. */
function expectGapless(deltas: { offset: number; text: string }[], text: string): void {
  let length = 0;
  for (const delta of deltas) {
    expect(delta.offset).toBe(length);
    length += delta.text.length;
  }
  expect(deltas.map((delta) => delta.text).join("")).toBe(text);
}

test("chunks that arrive 20 ms apart are pushed immediately", async () => {
  const { liveAnswer, deltas } = createLiveAnswer();
  for (let n = 1; n <= 10; n += 1) {
    liveAnswer.append(`${n} `);
    expect(deltas.length).toBe(n);
    await Bun.sleep(20);
  }
  expectGapless(deltas, "1 2 3 4 5 6 7 8 9 10 ");
});

test("chunks that arrive in quick succession are combined, and the last chunks are pushed within a second", async () => {
  const { liveAnswer, deltas } = createLiveAnswer();
  let text = "";
  for (let n = 0; n < 300; n += 1) {
    text += `${n} `;
    liveAnswer.append(`${n} `);
    if (n % 10 === 0) await Bun.sleep(1);
  }
  const appendedAtMs = performance.now();
  while (liveAnswer.text !== text) await Bun.sleep(1);
  expect(performance.now() - appendedAtMs).toBeLessThan(1_000);
  expect(deltas.length).toBeLessThan(100);
  expectGapless(deltas, text);
});

test("reasoning is pushed before the text, with separate offsets, in frames of limited length", () => {
  const { liveAnswer, deltas } = createLiveAnswer();
  const longReasoning = `${"🤔".repeat(9_000)}!`;
  liveAnswer.appendReasoning(longReasoning);
  liveAnswer.append("text");
  liveAnswer.flush();
  const reasoningDeltas = deltas.filter(({ type }) => (type as string) === "answer.reasoning");
  expectGapless(reasoningDeltas, longReasoning);
  expect(reasoningDeltas.length).toBeGreaterThan(1);
  for (const { text } of reasoningDeltas) expect(text.isWellFormed()).toBe(true);
  expectGapless(deltas.slice(reasoningDeltas.length), "text");
  expect(liveAnswer.createSnapshot()).toMatchObject({ text: "text", reasoning: longReasoning });
});

test.each([true, false])(
  "the next piece to store starts where the stored text ends (stores reasoning: %p)",
  (shouldStoreReasoning) => {
    const { liveAnswer } = createLiveAnswer({ shouldStoreReasoning });
    const getExpectedReasoning = (reasoning: string) => (shouldStoreReasoning ? reasoning : "");
    liveAnswer.appendReasoning("Hm. ");
    liveAnswer.flush();
    const firstPiece = liveAnswer.createNextPiece();
    expect(firstPiece).toEqual(shouldStoreReasoning ? { attempt: 1, n: 1, text: "", reasoning: "Hm. " } : null);
    if (firstPiece) liveAnswer.confirmStored(firstPiece);
    liveAnswer.appendReasoning("Yes.");
    liveAnswer.append("text");
    liveAnswer.flush();
    const secondPiece = liveAnswer.createNextPiece();
    expect(secondPiece).toEqual({
      attempt: 1,
      n: shouldStoreReasoning ? 2 : 1,
      text: "text",
      reasoning: getExpectedReasoning("Yes."),
    });
    if (secondPiece) liveAnswer.confirmStored(secondPiece);
    expect(liveAnswer.createNextPiece()).toBeNull();
    const resetPiece = liveAnswer.createResetPiece("te", "Hm.", 2);
    expect(resetPiece).toEqual({ attempt: 2, n: 1, text: "te", reasoning: getExpectedReasoning("Hm.") });
    liveAnswer.reset("te", "Hm.", 2);
    liveAnswer.confirmStored(resetPiece);
    expect(liveAnswer.createNextPiece()).toBeNull();
    expect(liveAnswer.storedReasoning).toBe(getExpectedReasoning("Hm."));
  },
);
