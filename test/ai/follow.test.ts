import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import type { AnswerPart, RunEnd } from "../../src/ai/answer-part.ts";
import { followRun } from "../../src/ai/chain/follow.ts";
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
const createTextPart = (value: string): AnswerPart => ({ type: "text", text: value });
const createUnabortedSignal = () => new AbortController().signal;

/** Creates a run that the test controls. */
function createControlledRun() {
  const runEnd = Promise.withResolvers<RunEnd>();
  const captured: { push: PushPart<AnswerPart>; request: Request } = {
    push: () => {},
    request: { signal: createUnabortedSignal() },
  };
  const run = (request: Request, push: PushPart<AnswerPart>) => {
    Object.assign(captured, { push, request });
    return runEnd.promise;
  };
  return { run, captured, end: () => runEnd.resolve(finish), fail: (error: Error) => runEnd.reject(error) };
}

describe("a reader that never waits", () => {
  test("receives each part in the tick in which it is pushed", async () => {
    const { run, captured, end } = createControlledRun();
    const receivedParts: AnswerPart[] = [];
    const followPromise = followRun(run, { signal: createUnabortedSignal() }, (part) => void receivedParts.push(part));
    captured.push(start);
    captured.push(createTextPart("a"));
    expect(receivedParts).toEqual([start, createTextPart("a")]);
    expect(captured.request.pause?.isPaused).toBe(false);
    end();
    expect(await followPromise).toEqual(finish);
  });
});

describe("a reader that returns a promise", () => {
  test("pauses the run, then receives the queued parts in order", async () => {
    const { run, captured, end } = createControlledRun();
    const storedStart = Promise.withResolvers<void>();
    const receivedParts: AnswerPart[] = [];
    const followPromise = followRun(run, { signal: createUnabortedSignal() }, (part) => {
      if (part.type === "text") return void receivedParts.push(part);
      return storedStart.promise.then(() => void receivedParts.push(part));
    });
    captured.push(start);
    captured.push(createTextPart("a"));
    captured.push(createTextPart("b"));
    end();
    await Bun.sleep(5);
    expect(receivedParts).toEqual([]);
    expect(captured.request.pause?.isPaused).toBe(true);
    storedStart.resolve();
    expect(await followPromise).toEqual(finish);
    expect(receivedParts).toEqual([start, createTextPart("a"), createTextPart("b")]);
    expect(captured.request.pause?.isPaused).toBe(false);
  });

  test("receives each part in the tick in which it is pushed, once it has caught up", async () => {
    const { run, captured, end } = createControlledRun();
    const receivedParts: AnswerPart[] = [];
    const followPromise = followRun(run, { signal: createUnabortedSignal() }, (part) => {
      receivedParts.push(part);
      return part.type === "start" ? Bun.sleep(1) : undefined;
    });
    captured.push(start);
    await Bun.sleep(10);
    captured.push(createTextPart("a"));
    expect(receivedParts).toEqual([start, createTextPart("a")]);
    end();
    await followPromise;
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
  ] as [string, () => Promise<void>][])(
    "aborts the run and receives no more parts after %s",
    async (_when, failRead) => {
      const { run, captured } = createControlledRun();
      let partsReceived = 0;
      const followPromise = followRun(run, { signal: createUnabortedSignal() }, () => {
        partsReceived += 1;
        return failRead();
      });
      captured.push(start);
      captured.push(createTextPart("a"));
      await expect(followPromise).rejects.toThrow("disk full");
      captured.push(createTextPart("b"));
      expect([partsReceived, captured.request.signal.aborted]).toEqual([1, true]);
    },
  );

  test("doesn't wait for a run that ignores the abort", async () => {
    const { run, captured } = createControlledRun();
    const followPromise = followRun(run, { signal: createUnabortedSignal() }, () =>
      Promise.reject(new Error("disk full")),
    );
    captured.push(start);
    await expect(followPromise).rejects.toThrow("disk full");
  });
});

test("followRun rethrows the run's error", async () => {
  const { run, fail } = createControlledRun();
  const followPromise = followRun(run, { signal: createUnabortedSignal() }, () => {});
  fail(new Error("the database is unavailable"));
  await expect(followPromise).rejects.toThrow("the database is unavailable");
});

describe("over a real connection", () => {
  let mockProvider: MockProvider;
  beforeAll(() => {
    mockProvider = startMockProvider();
  });
  afterEach(() => mockProvider.reset());
  afterAll(() => mockProvider.stop());

  const createRequest = (signal: AbortSignal) => ({
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
      const end = await followRun(chain.run, createRequest(createUnabortedSignal()), async (part) => {
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
    const followPromise = followRun(chain.run, createRequest(createUnabortedSignal()), (part) => {
      if (part.type === "text") throw new Error("enough");
    });
    await expect(followPromise).rejects.toThrow("enough");
    await Bun.sleep(60);
    expect(mockProvider.requests[0]?.wasAborted).toBe(true);
  });
});
