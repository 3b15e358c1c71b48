import { describe, expect, test } from "bun:test";
import { createBody } from "../../src/modules/webhooks/delivery/body.ts";
import { findRetryDelay } from "../../src/modules/webhooks/delivery/schedule.ts";
import { sign } from "../../src/modules/webhooks/delivery/signature.ts";
import { createDeliveryThrottle } from "../../src/modules/webhooks/delivery/throttle.ts";

test("the signature matches the published example", () => {
  const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
  const signature = sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, '{"test": 2432232314}');
  expect(signature).toBe("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
});

describe("the schedule", () => {
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
    delays.forEach((delayMs, at) => {
      expect(findRetryDelay(at + 1, null, 0)).toBe(delayMs);
      expect(findRetryDelay(at + 1, null, 0.999)).toBeWithin(delayMs, 1.1 * delayMs);
    });
    expect(findRetryDelay(10, null)).toBeNull();
  });

  test("is never earlier than Retry-After, which does not shorten it", () => {
    expect(findRetryDelay(1, 60_000, 0)).toBe(60_000);
    expect(findRetryDelay(2, 1_000, 0)).toBe(300_000);
  });
});

describe("a body", () => {
  const event = { type: "message.created", occurredAt: new Date(0), conversationId: null, seq: null };
  const read = (data: Record<string, unknown>) => {
    const body = createBody({ ...event, data });
    expect(Buffer.byteLength(body)).toBeLessThan(20_000);
    return JSON.parse(body).data;
  };

  test("that fits is unchanged", () => {
    const data = { content: "x".repeat(19_000), metadata: { a: 1 } };
    expect(read(data)).toEqual(data);
  });

  test.each([
    ["control characters", "\u0001".repeat(20_000)],
    ["quotes", '"'.repeat(20_000)],
    ["two UTF-16 units per character", "👋".repeat(10_000)],
    ["three bytes per UTF-16 unit", "语".repeat(20_000)],
  ])("of %s is cut by bytes", (_name, content) => {
    const data = read({ content });
    expect(content).toStartWith(data.content);
    expect(data.content.isWellFormed()).toBe(true);
    expect(data.content.length).toBeGreaterThan(3_000);
    expect(data.content_truncated).toBe(true);
  });

  test("whose other fields are too long keeps the beginning of its content", () => {
    const data = read({
      content: "c".repeat(30_000),
      title: "t".repeat(30_000),
      metadata: { big: "m".repeat(30_000) },
    });
    expect(data.content.length).toBeGreaterThan(10_000);
    expect(data.title.length).toBeGreaterThan(1_000);
    expect(data).toMatchObject({ metadata: null, content_truncated: true });
  });

  test("loses its reasoning first, as much as necessary", () => {
    const [content, reasoning] = ["c".repeat(8_000), "r👋".repeat(30_000)];
    const data = read({ content, reasoning });
    expect(data).toMatchObject({ content, content_truncated: true });
    expect(reasoning).toStartWith(data.reasoning);
    expect(data.reasoning.isWellFormed()).toBe(true);
    expect(data.reasoning.length).toBeGreaterThan(5_000);
    expect(read({ content: "c".repeat(30_000), reasoning })).toMatchObject({ reasoning: "" });
    expect(read({ content, reasoning: null })).toEqual({ content, reasoning: null });
  });

  test("without content, whose fields are too long, is cut too", () => {
    expect(read({ id: "1", title: "t".repeat(30_000) })).toMatchObject({ id: "1", content_truncated: true });
  });
});

describe("pacing", () => {
  const startPace = () => {
    let nowMs = 0;
    const pace = createDeliveryThrottle(() => nowMs);
    /** @returns how many deliveries may start per second with this many events. */
    const second = (events: number): number => {
      let begun = 0;
      for (let step = 0; step < 100; step += 1) {
        nowMs += 10;
        for (let n = 0; n < events / 100; n += 1) pace.countEvent();
        for (let n = 0; n < 200 && pace.take(); n += 1) begun += 1;
      }
      return begun;
    };
    return { pace, second };
  };

  test("delays nothing while there are few events", () => {
    const { second } = startPace();
    second(200);
    expect(second(200)).toBe(20_000);
  });

  test("gives sends more room the more there are, but never stops deliveries", () => {
    const { second } = startPace();
    second(1_000);
    expect(second(1_000)).toBeWithin(2_500, 3_500);
    second(4_000);
    expect(second(4_000)).toBeWithin(120, 180);
  });

  test("does not delay deliveries that have waited half a minute", () => {
    const { pace, second } = startPace();
    second(4_000);
    pace.recordLag(31_000);
    expect(second(4_000)).toBe(20_000);
  });
});
