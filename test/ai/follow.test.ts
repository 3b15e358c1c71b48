import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { AnswerPart, RunEnd } from "../../src/ai/answer-part.ts";
import { follow } from "../../src/ai/chain/follow.ts";
import type { PauseSignal } from "../../src/ai/pause-signal.ts";
import type { PushPart } from "../../src/ai/provider.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { createTestChain } from "./collect.ts";

type Request = { signal: AbortSignal; pause?: PauseSignal };

const finish: RunEnd = {
  type: "finish",
  model: "a/b",
  reason: "stop",
  toolCalls: [],
  models: ["a/b"],
  usage: null,
  costUsd: null,
};
const start: AnswerPart = { type: "start", model: "a/b", attempt: 1 };
const text = (value: string): AnswerPart => ({ type: "text", text: value });
const neverAborted = () => new AbortController().signal;

/** A run controlled by the test. */
function createRun() {
  const ended = Promise.withResolvers<RunEnd>();
  const given: { push: PushPart<AnswerPart>; request: Request } = {
    push: () => {},
    request: { signal: neverAborted() },
  };
  const run = (request: Request, push: PushPart<AnswerPart>) => {
    Object.assign(given, { push, request });
    return ended.promise;
  };
  return { run, given, end: () => ended.resolve(finish), fail: (error: Error) => ended.reject(error) };
}

describe("a reader that never waits", () => {
  test("takes each part in its tick, and gets the end", async () => {
    const { run, given, end } = createRun();
    const seen: AnswerPart[] = [];
    const followed = follow(run, { signal: neverAborted() }, (part) => void seen.push(part));
    given.push(start);
    given.push(text("a"));
    expect(seen).toEqual([start, text("a")]);
    expect(given.request.pause?.isPaused).toBe(false);
    end();
    expect(await followed).toEqual(finish);
  });
});

describe("a reader that waits at a part", () => {
  test("pauses the run, then takes the queued parts in order, then the end", async () => {
    const { run, given, end } = createRun();
    const stored = Promise.withResolvers<void>();
    const seen: AnswerPart[] = [];
    const followed = follow(run, { signal: neverAborted() }, (part) => {
      if (part.type === "text") return void seen.push(part);
      return stored.promise.then(() => void seen.push(part));
    });
    given.push(start);
    given.push(text("a"));
    given.push(text("b"));
    end();
    await Bun.sleep(5);
    expect(seen).toEqual([]);
    expect(given.request.pause?.isPaused).toBe(true);
    stored.resolve();
    expect(await followed).toEqual(finish);
    expect(seen).toEqual([start, text("a"), text("b")]);
    expect(given.request.pause?.isPaused).toBe(false);
  });

  test("takes texts in their tick again afterwards", async () => {
    const { run, given, end } = createRun();
    const seen: AnswerPart[] = [];
    const followed = follow(run, { signal: neverAborted() }, (part) => {
      seen.push(part);
      return part.type === "start" ? Bun.sleep(1) : undefined;
    });
    given.push(start);
    await Bun.sleep(10);
    given.push(text("a"));
    expect(seen).toEqual([start, text("a")]);
    end();
    await followed;
  });
});

describe("a failing reader", () => {
  test.each([
    [
      "an immediate exception",
      () => {
        throw new Error("no room");
      },
    ],
    ["a later rejection", () => Promise.reject(new Error("no room"))],
  ] as [string, () => Promise<void>][])("%s ends the run, and takes nothing more", async (_when, failing) => {
    const { run, given } = createRun();
    let taken = 0;
    const followed = follow(run, { signal: neverAborted() }, () => {
      taken += 1;
      return failing();
    });
    given.push(start);
    given.push(text("a"));
    await expect(followed).rejects.toThrow("no room");
    given.push(text("b"));
    expect([taken, given.request.signal.aborted]).toEqual([1, true]);
  });

  test("doesn't wait for a run that ignores it", async () => {
    const { run, given } = createRun();
    const followed = follow(run, { signal: neverAborted() }, () => Promise.reject(new Error("no room")));
    given.push(start);
    await expect(followed).rejects.toThrow("no room");
  });
});

test("rethrows what the run throws", async () => {
  const { run, fail } = createRun();
  const followed = follow(run, { signal: neverAborted() }, () => {});
  fail(new Error("the database is unavailable"));
  await expect(followed).rejects.toThrow("the database is unavailable");
});

describe("with the real transport", () => {
  let mockProvider: MockProvider;
  beforeAll(() => {
    mockProvider = startMockProvider();
  });
  afterEach(() => mockProvider.reset());
  afterAll(() => mockProvider.stop());

  const request = (signal: AbortSignal) => ({
    model: null,
    messages: [{ role: "user" as const, content: "x" }],
    signal,
  });

  test.each(["openai", "anthropic", "compatible"])(
    "%s: a slow reader gets everything, without a timeout",
    async (name) => {
      mockProvider.script("model", { pieces: ["one ", "two ", "three ", "four"], pieceDelayMs: 5 });
      const chain = createTestChain(mockProvider, [`${name}/model`], { idleTimeoutMs: 60, maxRetries: 0 });
      let all = "";
      const end = await follow(chain.run, request(neverAborted()), async (part) => {
        await Bun.sleep(100);
        if (part.type === "text") all += part.text;
      });
      expect([all, end.type]).toEqual(["one two three four", "finish"]);
      expect(end.usage?.estimated).toBe(false);
    },
  );

  test("a failing reader ends the request at the provider", async () => {
    mockProvider.script("model", { pieceDelayMs: 20, pieces: Array(200).fill("word ") });
    const chain = createTestChain(mockProvider, ["anthropic/model"]);
    const followed = follow(chain.run, request(neverAborted()), (part) => {
      if (part.type === "text") throw new Error("enough");
    });
    await expect(followed).rejects.toThrow("enough");
    await Bun.sleep(60);
    expect(mockProvider.requests[0]?.aborted).toBe(true);
  });
});
