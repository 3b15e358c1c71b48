import { afterEach, beforeEach, describe, expect, jest, test } from "bun:test";
import fc from "fast-check";
import type { DurableEvent, EphemeralEvent } from "../../src/protocol/events.ts";
import { Channel, type ChannelHooks, GAP_WAIT_MS, GAP_WAIT_MS_MAX } from "../../src/realtime/channel.ts";
import { createTestEvent } from "../support/events.ts";
import { countRuns } from "../support/properties.ts";

const conversation_id = "0190e6f0-0000-7000-8000-000000000000";
const message_id = "0190e6f0-0000-7000-8000-000000000001";
const eventOf = (seq: number) => createTestEvent(conversation_id, seq, "message.created", { id: `${seq}` });
const delta = (offset: number, text: string): EphemeralEvent => ({
  type: "message.delta",
  conversation_id,
  message_id,
  attempt: 1,
  offset,
  text,
});
const range = (first: number, last: number) =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, n) => first + n);

/** A channel over an in-memory log; `sent` is what listeners received: the seq of an event, the text of a delta. */
function createHarness(hooks: Partial<ChannelHooks> = {}) {
  const sent: (number | string)[] = [];
  const faults: unknown[] = [];
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
      return range(afterSeq + 1, Math.min(untilSeq, stored.seq)).map(eventOf);
    },
    listSnapshots: () =>
      text === "" ? [] : [{ messageId: message_id, attempt: 1, frame: JSON.stringify({ text: `=${text}` }) }],
    findLastSeq: async () => stored.seq,
    onEvent: () => {},
    endAnswer: () => null,
    onFault: (error) => faults.push(error),
    ...hooks,
  });

  return {
    channel,
    sent,
    faults,
    loads,
    stored,
    publish(...seqs: number[]) {
      for (const seq of seqs) {
        stored.seq = Math.max(stored.seq, seq);
        channel.publish(eventOf(seq));
      }
    },
    write(piece: string) {
      channel.publishFrame(delta(text.length, piece));
      text += piece;
    },
    /** Joins at the current position of the database. */
    join(readSeq = stored.seq, join = channel.startJoin()) {
      const welcome: { lastSeq: number; missed: number[]; caughtUp: boolean } = {
        lastSeq: -1,
        missed: [],
        caughtUp: false,
      };
      channel.finishJoin(
        join,
        readSeq,
        (lastSeq, missed) => {
          welcome.lastSeq = lastSeq;
          welcome.missed = missed.map(({ seq }) => seq);
        },
        () => {
          welcome.caughtUp = true;
        },
      );
      return welcome;
    },
  };
}

beforeEach(() => {
  jest.useFakeTimers();
});
afterEach(() => {
  jest.useRealTimers();
});
/** Lets the gap timer fire, and its work finish. */
async function wait(ms = GAP_WAIT_MS): Promise<void> {
  jest.advanceTimersByTime(ms);
  for (let tick = 0; tick < 10; tick += 1) await Promise.resolve();
}

describe("the order of pushes", () => {
  test("events in order are sent at once", () => {
    const { join, publish, sent } = createHarness();
    join(0);
    publish(1, 2, 3);
    expect(sent).toEqual([1, 2, 3]);
  });

  test("an early event waits for those before it; a repeated one is dropped", async () => {
    const { join, publish, sent, loads } = createHarness();
    join(0);
    publish(1, 1, 3, 5, 3, 1);
    expect(sent).toEqual([1]);
    publish(2);
    expect(sent).toEqual([1, 2, 3]);
    publish(4, 2, 5);
    expect(sent).toEqual([1, 2, 3, 4, 5]);
    await wait();
    expect({ sent, loads }).toEqual({ sent: [1, 2, 3, 4, 5], loads: [] });
  });

  test("a gap is read from the database, and its late events are dropped", async () => {
    const { join, publish, sent, loads } = createHarness();
    join(0);
    publish(1, 4, 6);
    await wait(GAP_WAIT_MS - 1);
    expect(sent).toEqual([1]);
    await wait(1);
    expect({ sent, loads }).toEqual({ sent: [1, 2, 3, 4, 5, 6], loads: [[1, 6]] });
    publish(2, 3, 5, 7);
    expect(sent).toEqual([1, 2, 3, 4, 5, 6, 7]);
  });

  test("a gap larger than one read is filled in several reads", async () => {
    const step = 10;
    const { join, publish, sent } = createHarness({
      loadEvents: async (afterSeq, untilSeq) => range(afterSeq + 1, Math.min(untilSeq, afterSeq + step)).map(eventOf),
    });
    join(0);
    publish(35);
    for (let round = 0; round < 4; round += 1) await wait();
    expect(sent).toEqual(range(1, 35));
  });

  test("events that arrive while a gap is read are sent after it", async () => {
    const reading = Promise.withResolvers<DurableEvent[]>();
    const { join, publish, sent } = createHarness({ loadEvents: () => reading.promise });
    join(0);
    publish(2);
    await wait();
    publish(3, 1, 4);
    expect(sent).toEqual([1, 2, 3, 4]);
    reading.resolve([1, 2].map(eventOf));
    await wait();
    expect(sent).toEqual([1, 2, 3, 4]);
  });

  test("while the database is unavailable, it is retried with backoff", async () => {
    let isUnavailable = true;
    const { join, publish, sent, faults } = createHarness({
      async loadEvents(afterSeq, untilSeq) {
        if (isUnavailable) throw new Error("away");
        return range(afterSeq + 1, untilSeq).map(eventOf);
      },
    });
    join(0);
    publish(3);
    for (let ms = 0; ms < 60_000; ms += 100) await wait(100);
    expect(faults.length).toBeGreaterThan(10);
    expect(faults.length).toBeLessThan(60_000 / GAP_WAIT_MS_MAX + 10);
    isUnavailable = false;
    await wait(GAP_WAIT_MS_MAX);
    expect(sent).toEqual([1, 2, 3]);
    publish(5);
    await wait();
    expect(sent).toEqual([1, 2, 3, 4, 5]);
  });

  test("a closed channel reads and sends nothing more", async () => {
    const reading = Promise.withResolvers<DurableEvent[]>();
    let loads = 0;
    const { join, publish, sent, channel } = createHarness({
      loadEvents() {
        loads += 1;
        return reading.promise;
      },
    });
    join(0);
    publish(2);
    await wait();
    channel.close();
    reading.resolve([]);
    for (let round = 0; round < 10; round += 1) await wait(GAP_WAIT_MS_MAX);
    expect({ sent, loads, timers: jest.getTimerCount() }).toEqual({ sent: [], loads: 1, timers: 0 });
  });
});

describe("joining", () => {
  test("events pushed while the position was read arrive once, including those that the database did not have yet", () => {
    const { join, publish, sent, channel } = createHarness();
    join(0);
    publish(1, 2);
    const second = channel.startJoin();
    publish(3, 4, 5);
    expect(join(4, second)).toEqual({ lastSeq: 5, missed: [5], caughtUp: true });
    publish(6);
    expect(sent).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test("the first listener does not get earlier pushes again", () => {
    const { join, publish, sent, channel } = createHarness();
    const first = channel.startJoin();
    publish(1, 2, 3);
    expect(join(2, first)).toMatchObject({ lastSeq: 2, missed: [] });
    publish(4);
    expect(sent).toEqual([3, 4]);
  });

  test("events in the database that are ahead of the pushes arrive as a push, even if their notification is lost", async () => {
    const { join, publish, sent, stored } = createHarness();
    join(0);
    publish(1);
    stored.seq = 3;
    expect(join()).toMatchObject({ lastSeq: 1, missed: [] });
    expect(sent).toEqual([1]);
    await wait();
    expect(sent).toEqual([1, 2, 3]);
  });

  test("an aborted join keeps nothing", () => {
    const { join, publish, channel } = createHarness();
    join(0);
    const given = channel.startJoin();
    channel.cancelJoin(given);
    publish(1);
    expect(given.missed).toEqual([]);
  });
});

describe("text of answers", () => {
  test("is sent at once, after its message", () => {
    const { join, publish, write, sent } = createHarness();
    join(0);
    publish(1);
    write("a");
    publish(2);
    write("b");
    expect(sent).toEqual([1, "a", 2, "b"]);
  });

  test("of a message behind a gap is sent whole after it, then continues with deltas", async () => {
    const { join, publish, write, sent } = createHarness();
    join(0);
    publish(2);
    write("a");
    write("b");
    expect(sent).toEqual([]);
    await wait();
    write("c");
    expect(sent).toEqual([1, 2, "=ab", "c"]);
  });

  test("written while the first reader joins arrives once: as the text so far", () => {
    for (const readSeq of [0, 1]) {
      const { join, publish, write, sent, channel } = createHarness();
      const first = channel.startJoin();
      publish(1);
      write("a");
      const { lastSeq, caughtUp } = join(readSeq, first);
      write("b");
      expect({ lastSeq, caughtUp, sent }).toEqual({
        lastSeq: readSeq,
        caughtUp: true,
        sent: [...range(readSeq + 1, 1), "b"],
      });
    }
  });

  test("that was skipped is sent before the end of its answer", async () => {
    for (const isFirst of [true, false]) {
      const { join, publish, write, sent, channel, stored } = createHarness();
      if (!isFirst) join(0);
      const joining = channel.startJoin();
      if (isFirst) publish(1);
      else stored.seq = 1;
      publish(2);
      write("a");
      write("b");
      channel.publish(createTestEvent(conversation_id, 3, "message.completed", { id: message_id, content: "ab" }));
      join(0, joining);
      await wait();
      channel.publish(eventOf(4));
      expect({ isFirst, sent }).toEqual({ isFirst, sent: [1, 2, "ab", 3, 4] });
    }
  });

  test("is sent after the message even if the database was ahead", async () => {
    const { join, publish, write, sent, stored } = createHarness();
    join(0);
    publish(1);
    write("a");
    stored.seq = 2;
    expect(join().caughtUp).toBe(false);
    write("b");
    await wait();
    expect(sent).toEqual([1, "a", 2, "=ab"]);
  });

  test("does not delay other pushes", () => {
    const { join, publish, sent, channel } = createHarness();
    join(0);
    publish(2);
    channel.publishFrame({ type: "read", conversation_id, user_id: message_id, seq: 1 });
    expect(sent).toHaveLength(1);
  });
});

describe("with any sequence of events", () => {
  type Step =
    | { kind: "publish"; seq: number }
    | { kind: "commit" }
    | { kind: "start" }
    | { kind: "finish" }
    | { kind: "wait" };
  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ kind: fc.constant("publish" as const), seq: fc.integer({ min: 1, max: 30 }) }),
    },
    { weight: 4, arbitrary: fc.constant<Step>({ kind: "commit" }) },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: "start" }) },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: "finish" }) },
    { weight: 1, arbitrary: fc.constant<Step>({ kind: "wait" }) },
  );

  /** Commits advance the database; notifications arrive in any order, twice, or never; readers join at any time. */
  test("every listener gets each event after its position, once and in order", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const { channel, sent, stored, join } = createHarness();
        const readers: { from: number; sentBefore: number; received: number[] }[] = [];
        const joining: { join: ReturnType<typeof channel.startJoin>; readSeq: number }[] = [];
        const finish = () => {
          const next = joining.shift();
          if (!next) return;
          const sentBefore = sent.length;
          const { lastSeq, missed } = join(next.readSeq, next.join);
          // The database's events up to the position from which pushes continue, and those missed since it was read.
          readers.push({ from: 1, sentBefore, received: [...range(1, Math.min(next.readSeq, lastSeq)), ...missed] });
        };
        for (const one of steps) {
          if (one.kind === "commit") stored.seq += 1;
          else if (one.kind === "publish" && one.seq <= stored.seq) channel.publish(eventOf(one.seq));
          else if (one.kind === "start") joining.push({ join: channel.startJoin(), readSeq: stored.seq });
          else if (one.kind === "finish") finish();
          else if (one.kind === "wait") await wait();
        }
        while (joining.length > 0) finish();
        // Eventually the notification of the last event arrives.
        if (stored.seq > 0) channel.publish(eventOf(stored.seq));
        for (let round = 0; round < 5; round += 1) await wait(GAP_WAIT_MS_MAX);
        for (const { sentBefore, received } of readers)
          expect([...received, ...sent.slice(sentBefore)]).toEqual(range(1, stored.seq));
      }),
      { numRuns: countRuns(400) },
    );
  });
});
