import { afterEach, beforeEach, describe, expect, jest, test } from "bun:test";
import fc from "fast-check";
import type { DurableEvent, EphemeralEvent } from "../../src/protocol/events.ts";
import { Channel, type ChannelHooks, GAP_WAIT_MS, GAP_WAIT_MS_MAX } from "../../src/realtime/channel.ts";
import { scaleRuns } from "../support/property-tests.ts";
import { createTestEvent } from "../support/test-events.ts";

const conversation_id = "0190e6f0-0000-7000-8000-000000000000";
const message_id = "0190e6f0-0000-7000-8000-000000000001";
const createEvent = (seq: number) => createTestEvent(conversation_id, seq, "message.created", { id: `${seq}` });
const createDelta = (offset: number, text: string): EphemeralEvent => ({
  type: "message.delta",
  conversation_id,
  message_id,
  attempt: 1,
  offset,
  text,
});
const listSeqs = (first: number, last: number) =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => first + n);

/** Creates a channel over an in-memory log. `sent` contains the seqs of events and the text of deltas that listeners received. */
function createHarness(hooks: Partial<ChannelHooks> = {}) {
  const sent: (number | string)[] = [];
  const errors: unknown[] = [];
  const loads: [number, number][] = [];
  /** The newest event in the database. */
  const stored = { seq: 0 };
  let text = "";
  const channel = new Channel({
    send(frame) {
      const { seq, text } = JSON.parse(frame) as { seq?: number; text?: string };
      sent.push(seq ?? text ?? frame);
    },
    async loadEvents(afterSeq, untilSeq) {
      loads.push([afterSeq, untilSeq]);
      return listSeqs(afterSeq + 1, Math.min(untilSeq, stored.seq)).map(createEvent);
    },
    listSnapshots: () =>
      text === "" ? [] : [{ messageId: message_id, attempt: 1, frame: JSON.stringify({ text: `=${text}` }) }],
    findLastSeq: async () => stored.seq,
    onEvent: () => {},
    endAnswer: () => null,
    onError: (error) => errors.push(error),
    ...hooks,
  });

  return {
    channel,
    sent,
    errors,
    loads,
    stored,
    publish(...seqs: number[]) {
      for (const seq of seqs) {
        stored.seq = Math.max(stored.seq, seq);
        channel.publish(createEvent(seq));
      }
    },
    writeText(piece: string) {
      channel.publishFrame(createDelta(text.length, piece));
      text += piece;
    },
    /** Joins at the database's current position. */
    join(readSeq = stored.seq, pendingJoin = channel.startJoin()) {
      const joinResult: { lastSeq: number; missed: number[]; isCaughtUp: boolean } = {
        lastSeq: -1,
        missed: [],
        isCaughtUp: false,
      };
      channel.finishJoin(
        pendingJoin,
        readSeq,
        (lastSeq, missed) => {
          joinResult.lastSeq = lastSeq;
          joinResult.missed = missed.map(({ seq }) => seq);
        },
        () => {
          joinResult.isCaughtUp = true;
        },
      );
      return joinResult;
    },
  };
}

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});
/** Advances the gap timer, and waits until reads that it started are done. */
async function advanceTimers(ms = GAP_WAIT_MS): Promise<void> {
  jest.advanceTimersByTime(ms);
  for (let tick = 0; tick < 10; tick += 1) await Promise.resolve();
}

describe("in a channel", () => {
  test("events in order are sent immediately", () => {
    const { join, publish, sent } = createHarness();
    join(0);
    publish(1, 2, 3);
    expect(sent).toEqual([1, 2, 3]);
  });

  test("an event after a gap waits for the missing events, and a duplicate event is dropped", async () => {
    const { join, publish, sent, loads } = createHarness();
    join(0);
    publish(1, 1, 3, 5, 3, 1);
    expect(sent).toEqual([1]);
    publish(2);
    expect(sent).toEqual([1, 2, 3]);
    publish(4, 2, 5);
    expect(sent).toEqual([1, 2, 3, 4, 5]);
    await advanceTimers();
    expect({ sent, loads }).toEqual({ sent: [1, 2, 3, 4, 5], loads: [] });
  });

  test("a gap doesn't delay ephemeral events", () => {
    const { join, publish, sent, channel } = createHarness();
    join(0);
    publish(2);
    channel.publishFrame({ type: "read", conversation_id, user_id: message_id, seq: 1 });
    expect(sent).toHaveLength(1);
  });

  test("a gap is filled from the database, and the missing events are dropped if they arrive late", async () => {
    const { join, publish, sent, loads } = createHarness();
    join(0);
    publish(1, 4, 6);
    await advanceTimers(GAP_WAIT_MS - 1);
    expect(sent).toEqual([1]);
    await advanceTimers(1);
    expect({ sent, loads }).toEqual({ sent: [1, 2, 3, 4, 5, 6], loads: [[1, 6]] });
    publish(2, 3, 5, 7);
    expect(sent).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  test("a gap that is too large for one read is filled in several reads", async () => {
    const step = 10;
    const { join, publish, sent } = createHarness({
      loadEvents: async (afterSeq, untilSeq) =>
        listSeqs(afterSeq + 1, Math.min(untilSeq, afterSeq + step)).map(createEvent),
    });
    join(0);
    publish(35);
    for (let round = 0; round < 4; round += 1) await advanceTimers();
    expect(sent).toEqual(listSeqs(1, 35));
  });

  test("events that arrive while missing events are being read are sent after them", async () => {
    const reading = Promise.withResolvers<DurableEvent[]>();
    const { join, publish, sent } = createHarness({ loadEvents: () => reading.promise });
    join(0);
    publish(2);
    await advanceTimers();
    publish(3, 1, 4);
    expect(sent).toEqual([1, 2, 3, 4]);
    reading.resolve([1, 2].map(createEvent));
    await advanceTimers();
    expect(sent).toEqual([1, 2, 3, 4]);
  });

  test("reading the missing events is retried with backoff while the database is unavailable", async () => {
    let isUnavailable = true;
    const { join, publish, sent, errors } = createHarness({
      async loadEvents(afterSeq, untilSeq) {
        if (isUnavailable) throw new Error("unavailable");
        return listSeqs(afterSeq + 1, untilSeq).map(createEvent);
      },
    });
    join(0);
    publish(3);
    for (let ms = 0; ms < 60_000; ms += 100) await advanceTimers(100);
    expect(errors.length).toBeGreaterThan(10);
    expect(errors.length).toBeLessThan(60_000 / GAP_WAIT_MS_MAX + 10);
    isUnavailable = false;
    await advanceTimers(GAP_WAIT_MS_MAX);
    expect(sent).toEqual([1, 2, 3]);
    publish(5);
    await advanceTimers();
    expect(sent).toEqual([1, 2, 3, 4, 5]);
  });

  test("a closed channel reads and sends nothing more", async () => {
    const reading = Promise.withResolvers<DurableEvent[]>();
    let loadCount = 0;
    const { join, publish, sent, channel } = createHarness({
      loadEvents() {
        loadCount += 1;
        return reading.promise;
      },
    });
    join(0);
    publish(2);
    await advanceTimers();
    channel.close();
    reading.resolve([]);
    for (let round = 0; round < 10; round += 1) await advanceTimers(GAP_WAIT_MS_MAX);
    expect({ sent, loads: loadCount, timers: jest.getTimerCount() }).toEqual({ sent: [], loads: 1, timers: 0 });
  });
});

describe("when listeners join", () => {
  test("events pushed while the position is being read arrive once, even if they weren't in the database yet", () => {
    const { join, publish, sent, channel } = createHarness();
    join(0);
    publish(1, 2);
    const secondJoin = channel.startJoin();
    publish(3, 4, 5);
    expect(join(4, secondJoin)).toEqual({ lastSeq: 5, missed: [5], isCaughtUp: true });
    publish(6);
    expect(sent).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("the first listener receives no events from before its position", () => {
    const { join, publish, sent, channel } = createHarness();
    const firstJoin = channel.startJoin();
    publish(1, 2, 3);
    expect(join(2, firstJoin)).toMatchObject({ lastSeq: 2, missed: [] });
    publish(4);
    expect(sent).toEqual([3, 4]);
  });

  test("events up to the database's position are pushed later, even if their notification is lost", async () => {
    const { join, publish, sent, stored } = createHarness();
    join(0);
    publish(1);
    stored.seq = 3;
    expect(join()).toMatchObject({ lastSeq: 1, missed: [] });
    expect(sent).toEqual([1]);
    await advanceTimers();
    expect(sent).toEqual([1, 2, 3]);
  });

  test("a cancelled join collects no events", () => {
    const { join, publish, channel } = createHarness();
    join(0);
    const cancelled = channel.startJoin();
    channel.cancelJoin(cancelled);
    publish(1);
    expect(cancelled.missedEvents).toEqual([]);
  });
});

describe("the text of an answer", () => {
  test("is sent immediately after its message", () => {
    const { join, publish, writeText, sent } = createHarness();
    join(0);
    publish(1);
    writeText("a");
    publish(2);
    writeText("b");
    expect(sent).toEqual([1, "a", 2, "b"]);
  });

  test("is sent as a snapshot after its message if the message follows a gap, then continues with deltas", async () => {
    const { join, publish, writeText, sent } = createHarness();
    join(0);
    publish(2);
    writeText("a");
    writeText("b");
    expect(sent).toEqual([]);
    await advanceTimers();
    writeText("c");
    expect(sent).toEqual([1, 2, "=ab", "c"]);
  });

  test("is not sent as a delta if it is written while the first reader joins, because the reader's snapshot contains it", () => {
    for (const readSeq of [0, 1]) {
      const { join, publish, writeText, sent, channel } = createHarness();
      const firstJoin = channel.startJoin();
      publish(1);
      writeText("a");
      const { lastSeq, isCaughtUp } = join(readSeq, firstJoin);
      writeText("b");
      expect({ lastSeq, isCaughtUp, sent }).toEqual({
        lastSeq: readSeq,
        isCaughtUp: true,
        sent: [...listSeqs(readSeq + 1, 1), "b"],
      });
    }
  });

  test("is sent before the answer's end if it was skipped earlier", async () => {
    for (const isFirst of [true, false]) {
      const { join, publish, writeText, sent, channel, stored } = createHarness();
      if (!isFirst) join(0);
      const pendingJoin = channel.startJoin();
      if (isFirst) publish(1);
      else stored.seq = 1;
      publish(2);
      writeText("a");
      writeText("b");
      channel.publish(createTestEvent(conversation_id, 3, "message.completed", { id: message_id, content: "ab" }));
      join(0, pendingJoin);
      await advanceTimers();
      channel.publish(createEvent(4));
      expect({ isFirst, sent }).toEqual({ isFirst, sent: [1, 2, "ab", 3, 4] });
    }
  });

  test("is sent after the message even if the database was ahead", async () => {
    const { join, publish, writeText, sent, stored } = createHarness();
    join(0);
    publish(1);
    writeText("a");
    stored.seq = 2;
    expect(join().isCaughtUp).toBe(false);
    writeText("b");
    await advanceTimers();
    expect(sent).toEqual([1, "a", 2, "=ab"]);
  });
});

describe("with any sequence of events", () => {
  type Step =
    | { kind: "publish"; seq: number }
    | { kind: "commit" }
    | { kind: "start" }
    | { kind: "finish" }
    | { kind: "wait" };
  const arbitraryStep: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant("publish" as const), seq: fc.integer({ min: 1, max: 30 }) }),
    },
    { weight: 4, arbitrary: fc.constant<Step>({ kind: "commit" }) },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: "start" }) },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: "finish" }) },
    { weight: 1, arbitrary: fc.constant<Step>({ kind: "wait" }) },
  );

  /** Commits add events to the database. Notifications arrive in any order, twice, or never. Readers join at any time. */
  test("every listener receives each event after its position once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(arbitraryStep, { maxLength: 60 }), async (steps) => {
        const { channel, sent, stored, join } = createHarness();
        const readers: { sentBefore: number; received: number[] }[] = [];
        const pendingJoins: { join: ReturnType<typeof channel.startJoin>; readSeq: number }[] = [];
        const finishNextJoin = () => {
          const nextJoin = pendingJoins.shift();
          if (!nextJoin) return;
          const sentBefore = sent.length;
          const { lastSeq, missed } = join(nextJoin.readSeq, nextJoin.join);
          // The events that the reader found in the database when it joined, and the events that it missed later.
          readers.push({ sentBefore, received: [...listSeqs(1, Math.min(nextJoin.readSeq, lastSeq)), ...missed] });
        };
        for (const step of steps) {
          if (step.kind === "commit") stored.seq += 1;
          else if (step.kind === "publish" && step.seq <= stored.seq) channel.publish(createEvent(step.seq));
          else if (step.kind === "start") pendingJoins.push({ join: channel.startJoin(), readSeq: stored.seq });
          else if (step.kind === "finish") finishNextJoin();
          else if (step.kind === "wait") await advanceTimers();
        }
        while (pendingJoins.length > 0) finishNextJoin();
        // Eventually the notification of the last event arrives.
        if (stored.seq > 0) channel.publish(createEvent(stored.seq));
        for (let round = 0; round < 5; round += 1) await advanceTimers(GAP_WAIT_MS_MAX);
        for (const { sentBefore, received } of readers)
          expect([...received, ...sent.slice(sentBefore)]).toEqual(listSeqs(1, stored.seq));
      }),
      { numRuns: scaleRuns(400) },
    );
  });
});
