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

/** Creates a run that the test controls. */
function createRun() {
  const ended = Promise.withResolvers<RunEnd>();
  const captured: { push: PushPart<AnswerPart>; request: Request } = {
    push: () => {},
    request: { signal: neverAborted() },
  };
  const run = (request: Request, push: PushPart<AnswerPart>) => {
    Object.assign(captured, { push, request });
    return ended.promise;
  };
  return { run, captured, end: () => ended.resolve(finish), fail: (error: Error) => ended.reject(error) };
}

describe("a reader that never waits", () => {
  test("receives each part in the tick in which it is pushed", async () => {
    const { run, captured, end } = createRun();
    const received: AnswerPart[] = [];
    const followed = follow(run, { signal: neverAborted() }, (part) => void received.push(part));
    captured.push(start);
    captured.push(text("a"));
    expect(received).toEqual([start, text("a")]);
    expect(captured.request.pause?.isPaused).toBe(false);
    end();
    expect(await followed).toEqual(finish);
  });
});

describe("a reader that returns a promise", () => {
  test("pauses the run, then receives the queued parts in order", async () => {
    const { run, captured, end } = createRun();
    const stored = Promise.withResolvers<void>();
    const received: AnswerPart[] = [];
    const followed = follow(run, { signal: neverAborted() }, (part) => {
      if (part.type === "text") return void received.push(part);
      return stored.promise.then(() => void received.push(part));
    });
    captured.push(start);
    captured.push(text("a"));
    captured.push(text("b"));
    end();
    await Bun.sleep(5);
    expect(received).toEqual([]);
    expect(captured.request.pause?.isPaused).toBe(true);
    stored.resolve();
    expect(await followed).toEqual(finish);
    expect(received).toEqual([start, text("a"), text("b")]);
    expect(captured.request.pause?.isPaused).toBe(false);
  });

  test("receives parts in the tick in which they are pushed once it has caught up", async () => {
    const { run, captured, end } = createRun();
    const received: AnswerPart[] = [];
    const followed = follow(run, { signal: neverAborted() }, (part) => {
      received.push(part);
      return part.type === "start" ? Bun.sleep(1) : undefined;
    });
    captured.push(start);
    await Bun.sleep(10);
    captured.push(text("a"));
    expect(received).toEqual([start, text("a")]);
    end();
    await followed;
  });
});

describe("a failing reader", () => {
  test.each([
    [
      "an immediate exception",
      () => {
        throw new Error("disk full");
      },
    ],
    ["a later rejection", () => Promise.reject(new Error("disk full"))],
  ] as [string, () => Promise<void>][])("with %s aborts the run and receives no more parts", async (_when, failing) => {
    const { run, captured } = createRun();
    let partsReceived = 0;
    const followed = follow(run, { signal: neverAborted() }, () => {
      partsReceived += 1;
      return failing();
    });
    captured.push(start);
    captured.push(text("a"));
    await expect(followed).rejects.toThrow("disk full");
    captured.push(text("b"));
    expect([partsReceived, captured.request.signal.aborted]).toEqual([1, true]);
  });

  test("doesn't wait for a run that ignores the abort", async () => {
    const { run, captured } = createRun();
    const followed = follow(run, { signal: neverAborted() }, () => Promise.reject(new Error("disk full")));
    captured.push(start);
    await expect(followed).rejects.toThrow("disk full");
  });
});

test("follow rethrows the run's error", async () => {
  const { run, fail } = createRun();
  const followed = follow(run, { signal: neverAborted() }, () => {});
  fail(new Error("the database is unavailable"));
  await expect(followed).rejects.toThrow("the database is unavailable");
});

describe("over a real connection", () => {
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
    "%s: a slow reader receives the whole answer without a timeout",
    async (name) => {
      mockProvider.script("model", { pieces: ["one ", "two ", "three ", "four"], pieceDelayMs: 5 });
      const chain = createTestChain(mockProvider, [`${name}/model`], { idleTimeoutMs: 60, maxRetries: 0 });
      let receivedText = "";
      const end = await follow(chain.run, request(neverAborted()), async (part) => {
        await Bun.sleep(100);
        if (part.type === "text") receivedText += part.text;
      });
      expect([receivedText, end.type]).toEqual(["one two three four", "finish"]);
      expect(end.usage?.estimated).toBe(false);
    },
  );

  test("a failing reader aborts the request to the provider", async () => {
    mockProvider.script("model", { pieceDelayMs: 20, pieces: Array(200).fill("word ") });
    const chain = createTestChain(mockProvider, ["anthropic/model"]);
    const followed = follow(chain.run, request(neverAborted()), (part) => {
      if (part.type === "text") throw new Error("enough");
    });
    await expect(followed).rejects.toThrow("enough");
    await Bun.sleep(60);
    expect(mockProvider.requests[0]?.wasAborted).toBe(true);
  });
});
