import { describe, expect, test } from "bun:test";
import { createBody } from "../../src/modules/webhooks/delivery/body.ts";
import { findRetryDelayMs } from "../../src/modules/webhooks/delivery/schedule.ts";
import { createSignatureHeader } from "../../src/modules/webhooks/delivery/signature.ts";
import { createDeliveryThrottle } from "../../src/modules/webhooks/delivery/throttle.ts";

test("the signature matches the example published by Standard Webhooks", () => {
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const signature = createSignatureHeader(
    [secret],
    "msg_p5jXN8AQM9LWM0D4loKWxJek",
    1_614_265_330,
    '{"test": 2432232314}',
  );
  expect(signature).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
});

describe("the retry schedule", () => {
  test("matches Standard Webhooks, with up to 10% jitter, and ends after ten attempts", () => {
    const [second, minute, hour] = [1_000, 60_000, 3_600_000];
    const delays = [
      5 * second,
      5 * minute,
      30 * minute,
      2 * hour,
      5 * hour,
      10 * hour,
      14 * hour,
      20 * hour,
      24 * hour,
    ];
    delays.forEach((delayMs, index) => {
      expect(findRetryDelayMs(index + 1, null, 0)).toBe(delayMs);
      expect(findRetryDelayMs(index + 1, null, 0.999)).toBeWithin(delayMs, 1.1 * delayMs);
    });
    expect(findRetryDelayMs(10, null)).toBeNull();
  });

  test("extends a delay to Retry-After, but never shortens it", () => {
    expect(findRetryDelayMs(1, 60_000, 0)).toBe(60_000);
    expect(findRetryDelayMs(2, 1_000, 0)).toBe(300_000);
  });
});

describe("a body", () => {
  const event = { type: "message.created", occurredAt: new Date(0), conversationId: null, seq: null };
  const parseBodyData = (data: Record<string, unknown>) => {
    const body = createBody({ ...event, data });
    expect(Buffer.byteLength(body)).toBeLessThan(20_000);
    return JSON.parse(body).data;
  };

  test("below the size limit is unchanged", () => {
    const data = { content: "x".repeat(19_000), metadata: { a: 1 } };
    expect(parseBodyData(data)).toEqual(data);
  });

  test.each([
    ["control characters", "\u0001".repeat(20_000)],
    ["quotes", '"'.repeat(20_000)],
    ["two UTF-16 code units per character", "👋".repeat(10_000)],
    ["three bytes per UTF-16 code unit", "语".repeat(20_000)],
  ])("of %s is truncated by bytes", (_name, content) => {
    const data = parseBodyData({ content });
    expect(content).toStartWith(data.content);
    expect(data.content.isWellFormed()).toBe(true);
    expect(data.content.length).toBeGreaterThan(3_000);
    expect(data.content_truncated).toBe(true);
  });

  test("keeps the start of its content even if its other fields are too long", () => {
    const data = parseBodyData({
      content: "c".repeat(30_000),
      title: "t".repeat(30_000),
      metadata: { large: "m".repeat(30_000) },
    });
    expect(data.content.length).toBeGreaterThan(10_000);
    expect(data.title.length).toBeGreaterThan(1_000);
    expect(data).toMatchObject({ metadata: null, content_truncated: true });
  });

  test("has its reasoning truncated before its content", () => {
    const [content, reasoning] = ["c".repeat(8_000), "r👋".repeat(30_000)];
    const data = parseBodyData({ content, reasoning });
    expect(data).toMatchObject({ content, content_truncated: true });
    expect(reasoning).toStartWith(data.reasoning);
    expect(data.reasoning.isWellFormed()).toBe(true);
    expect(data.reasoning.length).toBeGreaterThan(5_000);
    expect(parseBodyData({ content: "c".repeat(30_000), reasoning })).toMatchObject({ reasoning: "" });
    expect(parseBodyData({ content, reasoning: null })).toEqual({ content, reasoning: null });
  });

  test("without content is also truncated if its fields are too long", () => {
    expect(parseBodyData({ id: "1", title: "t".repeat(30_000) })).toMatchObject({ id: "1", content_truncated: true });
  });
});

describe("the delivery throttle", () => {
  const createTestThrottle = () => {
    let nowMs = 0;
    const throttle = createDeliveryThrottle(() => nowMs);
    /** Simulates a second in which `eventCount` events are published, and returns how many deliveries could start. */
    const runSecond = (eventCount: number): number => {
      let startedCount = 0;
      for (let step = 0; step < 100; step += 1) {
        nowMs += 10;
        for (let n = 0; n < eventCount / 100; n += 1) throttle.countEvent();
        for (let n = 0; n < 200 && throttle.tryStart(); n += 1) startedCount += 1;
      }
      return startedCount;
    };
    return { throttle, runSecond };
  };

  test("delays nothing while there are few events", () => {
    const { runSecond } = createTestThrottle();
    runSecond(200);
    expect(runSecond(200)).toBe(20_000);
  });

  test("slows deliveries down as the number of events grows, but never stops them", () => {
    const { runSecond } = createTestThrottle();
    runSecond(1_000);
    expect(runSecond(1_000)).toBeWithin(2_500, 3_500);
    runSecond(4_000);
    expect(runSecond(4_000)).toBeWithin(120, 180);
  });

  test("does not delay deliveries that have waited half a minute", () => {
    const { throttle, runSecond } = createTestThrottle();
    runSecond(4_000);
    throttle.recordLag(31_000);
    expect(runSecond(4_000)).toBe(20_000);
  });
});
