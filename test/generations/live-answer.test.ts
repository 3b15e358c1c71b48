import { expect, test } from "bun:test";
import { FLUSH_MS_MIN } from "../../src/modules/generations/flush-interval.ts";
import { createFlushScheduler } from "../../src/modules/generations/flush-scheduler.ts";
import { LiveAnswer } from "../../src/modules/generations/live-answer.ts";
import type { EphemeralEvent } from "../../src/protocol/events.ts";

function createAnswer({ storesReasoning = true } = {}) {
  const deltas: Extract<EphemeralEvent, { type: "message.delta" }>[] = [];
  const publish = (_topic: string, create: () => Iterable<unknown>) => {
    deltas.push(...(create() as typeof deltas));
  };
  const live = new LiveAnswer({
    conversationId: "conversation",
    messageId: "message",
    seq: 2,
    attempt: 1,
    text: "",
    reasoning: "",
    storesReasoning,
    bus: { publish } as never,
    flushes: createFlushScheduler(() => FLUSH_MS_MIN),
  });
  return { live, deltas };
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
  const { live, deltas } = createAnswer();
  for (let n = 1; n <= 10; n += 1) {
    live.append(`${n} `);
    expect(deltas.length).toBe(n);
    await Bun.sleep(20);
  }
  expectGapless(deltas, "1 2 3 4 5 6 7 8 9 10 ");
});

test("chunks that arrive in quick succession are combined, and the last chunks are pushed within a second", async () => {
  const { live, deltas } = createAnswer();
  let text = "";
  for (let n = 0; n < 300; n += 1) {
    text += `${n} `;
    live.append(`${n} `);
    if (n % 10 === 0) await Bun.sleep(1);
  }
  const sentAtMs = performance.now();
  while (live.text !== text) await Bun.sleep(1);
  expect(performance.now() - sentAtMs).toBeLessThan(1_000);
  expect(deltas.length).toBeLessThan(100);
  expectGapless(deltas, text);
});

test("reasoning is pushed before the text, with separate offsets, in frames of limited length", () => {
  const { live, deltas } = createAnswer();
  const longReasoning = `${"🤔".repeat(9_000)}!`;
  live.appendReasoning(longReasoning);
  live.append("text");
  live.flush();
  const reasoningDeltas = deltas.filter(({ type }) => (type as string) === "answer.reasoning");
  expectGapless(reasoningDeltas, longReasoning);
  expect(reasoningDeltas.length).toBeGreaterThan(1);
  for (const { text } of reasoningDeltas) expect(text.isWellFormed()).toBe(true);
  expectGapless(deltas.slice(reasoningDeltas.length), "text");
  expect(live.createSnapshot()).toMatchObject({ text: "text", reasoning: longReasoning });
});

test.each([true, false])(
  "the next piece to store starts after the stored text (stores reasoning: %p)",
  (storesReasoning) => {
    const { live } = createAnswer({ storesReasoning });
    const expectStored = (reasoning: string) => (storesReasoning ? reasoning : "");
    live.appendReasoning("Hm. ");
    live.flush();
    const first = live.createNextPiece();
    expect(first).toEqual(storesReasoning ? { attempt: 1, n: 1, text: "", reasoning: "Hm. " } : null);
    if (first) live.confirmStored(first);
    live.appendReasoning("Yes.");
    live.append("text");
    live.flush();
    const second = live.createNextPiece();
    expect(second).toEqual({ attempt: 1, n: storesReasoning ? 2 : 1, text: "text", reasoning: expectStored("Yes.") });
    if (second) live.confirmStored(second);
    expect(live.createNextPiece()).toBeNull();
    const piece = live.createResetPiece("te", "Hm.", 2);
    expect(piece).toEqual({ attempt: 2, n: 1, text: "te", reasoning: expectStored("Hm.") });
    live.reset("te", "Hm.", 2);
    live.confirmStored(piece);
    expect(live.createNextPiece()).toBeNull();
    expect(live.storedReasoning).toBe(expectStored("Hm."));
  },
);
