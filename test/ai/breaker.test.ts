import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createBreaker } from "../../src/ai/chain/breaker.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createRecorder, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const breaker = { failuresMax: 3, coolDownMs: 250, coolDownMaxMs: 1_000 };

describe("in the chain", () => {
  test("a failing model is skipped while it cools down, and is used again after one successful attempt", async () => {
    const { observe, events } = createRecorder();
    const chain = createTestChain(mockProvider, ["openai/model", "anthropic/normal"], {
      breaker,
      observe,
      maxRetries: 2,
    });
    mockProvider.script("model", { fault: "status" });
    await collect(chain);
    expect(mockProvider.requestsOf("model").length).toBe(3);
    const [first, second] = chain.models();
    expect(first).toEqual({ id: "openai/model", provider: "openai", state: "cooling_down", until: expect.any(Date) });
    expect(second).toEqual({ id: "anthropic/normal", provider: "anthropic", state: "available" });

    expect((await collect(chain)).end).toMatchObject({ type: "finish", model: "anthropic/normal" });
    expect(mockProvider.requestsOf("model").length).toBe(3);

    await Bun.sleep(280);
    mockProvider.script("model", { text: "back" });
    expect((await collect(chain)).end).toMatchObject({ type: "finish", model: "openai/model" });
    expect(chain.models()[0]?.state).toBe("available");
    expect(events.filter(([name]) => name === "state")).toEqual([
      ["state", "openai/model", "cooling_down"],
      ["state", "openai/model", "available"],
    ]);
  });

  test("if every model is cooling down, the one available soonest is tried", async () => {
    const chain = createTestChain(mockProvider, ["openai/a", "anthropic/b"], { breaker, maxRetries: 2 });
    mockProvider.script("a", { fault: "status", status: 429, retryAfter: "60" });
    mockProvider.script("b", { fault: "status" });
    expect((await collect(chain)).end.type).toBe("error");
    expect(chain.models().map(({ state }) => state)).toEqual(["cooling_down", "cooling_down"]);
    mockProvider.reset();
    const { end } = await collect(chain);
    expect(end).toMatchObject({ type: "finish", model: "anthropic/b" });
    expect(mockProvider.requestsOf("a").length).toBe(0);
  });

  test("rejected requests and stopped answers don't open it", async () => {
    const chain = createTestChain(mockProvider, ["openai/model"], { breaker });
    mockProvider.script("model", { fault: "status", status: 400 });
    for (let index = 0; index < 5; index += 1) await collect(chain);
    mockProvider.script("model", { fault: "no_first_token" });
    for (let index = 0; index < 5; index += 1) await collect(chain, { signal: AbortSignal.timeout(10) });
    expect(chain.models()[0]?.state).toBe("available");
  });

  test("half-open, it allows one attempt at a time, until its first token", async () => {
    const chain = createTestChain(mockProvider, ["openai/model", "anthropic/normal"], { breaker, maxRetries: 2 });
    mockProvider.script("model", { fault: "status" });
    await collect(chain);
    await Bun.sleep(280);
    mockProvider.reset();
    mockProvider.script("model", { firstDelayMs: 60 });
    const answers = await Promise.all([collect(chain), collect(chain), collect(chain)]);
    const models = answers.map(({ end }) => end.models[0]).sort();
    expect(models).toEqual(["anthropic/normal", "anthropic/normal", "openai/model"]);
  });
});

describe("in isolation", () => {
  const admit = (subject: ReturnType<typeof createBreaker>) => {
    const report = subject.tryAdmit();
    if (!report) throw new Error("not admitted");
    return report;
  };

  test("a success between failures resets the count", () => {
    const subject = createBreaker(breaker);
    for (const isGood of [false, false, true, false, false]) isGood ? admit(subject).succeed() : admit(subject).fail();
    expect(subject.state().state).toBe("available");
    admit(subject).fail();
    expect(subject.state().state).toBe("cooling_down");
    expect(subject.tryAdmit()).toBeNull();
  });

  test("a failed half-open attempt opens it for twice as long, up to the maximum", async () => {
    const subject = createBreaker({ failuresMax: 1, coolDownMs: 100, coolDownMaxMs: 150 });
    const pauseMs = () => {
      const state = subject.state();
      return state.state === "cooling_down" ? state.until.getTime() - Date.now() : 0;
    };
    admit(subject).fail();
    expect(pauseMs()).toBeLessThanOrEqual(100);
    await Bun.sleep(110);
    admit(subject).fail();
    expect(pauseMs()).toBeGreaterThan(100);
    expect(pauseMs()).toBeLessThanOrEqual(150);
  });

  test("a half-open attempt without a result makes room for the next", async () => {
    const subject = createBreaker({ failuresMax: 1, coolDownMs: 5, coolDownMaxMs: 5 });
    admit(subject).fail();
    await Bun.sleep(10);
    const first = admit(subject);
    expect(subject.tryAdmit()).toBeNull();
    first.leave();
    const next = admit(subject);
    next.firstToken();
    expect(subject.tryAdmit()).not.toBeNull();
  });

  test("a long Retry-After opens it immediately, for that long; a short one doesn't", () => {
    const subject = createBreaker({ ...breaker, coolDownMaxMs: 300_000 });
    admit(subject).fail({ retryAfterMs: 1_000 });
    expect(subject.state().state).toBe("available");
    admit(subject).fail({ retryAfterMs: 60_000 });
    const state = subject.state();
    expect(state.state === "cooling_down" && state.until.getTime() - Date.now()).toBeGreaterThan(59_000);
  });

  test("results of attempts from before it opened are ignored", async () => {
    const subject = createBreaker({ failuresMax: 1, coolDownMs: 5, coolDownMaxMs: 1_000 });
    const [early, other, late] = [admit(subject), admit(subject), admit(subject)];
    early.fail();
    other.succeed();
    expect(subject.state().state).toBe("cooling_down");
    await Bun.sleep(10);
    late.fail();
    expect(subject.state().state).toBe("available");
  });
});
