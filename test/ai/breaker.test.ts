import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createBreaker } from "../../src/ai/chain/breaker.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collectRun, createRecordingObserver, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const breakerOptions = { failuresMax: 3, coolDownMs: 250, coolDownMaxMs: 1_000 };

describe("the circuit breaker in a failover chain", () => {
  test("skips a failing model while it cools down, and uses it again after one successful attempt", async () => {
    const { observer, events } = createRecordingObserver();
    const chain = createTestChain(mockProvider, ["openai/model", "anthropic/normal"], {
      breaker: breakerOptions,
      observer,
      maxRetries: 2,
    });
    mockProvider.script("model", { fault: "status" });
    await collectRun(chain);
    expect(mockProvider.listRequests("model").length).toBe(3);
    const [failingModel, healthyModel] = chain.listModels();
    expect(failingModel).toEqual({
      id: "openai/model",
      provider: "openai",
      state: "cooling_down",
      until: expect.any(Date),
    });
    expect(healthyModel).toEqual({ id: "anthropic/normal", provider: "anthropic", state: "available" });

    expect((await collectRun(chain)).end).toMatchObject({ type: "finish", model: "anthropic/normal" });
    expect(mockProvider.listRequests("model").length).toBe(3);

    await Bun.sleep(280);
    mockProvider.script("model", { text: "back" });
    expect((await collectRun(chain)).end).toMatchObject({ type: "finish", model: "openai/model" });
    expect(chain.listModels()[0]?.state).toBe("available");
    expect(events.filter(([name]) => name === "state")).toEqual([
      ["state", "openai/model", "cooling_down"],
      ["state", "openai/model", "available"],
    ]);
  });

  test("tries the model whose cooldown ends first if all models are cooling down", async () => {
    const chain = createTestChain(mockProvider, ["openai/a", "anthropic/b"], {
      breaker: breakerOptions,
      maxRetries: 2,
    });
    mockProvider.script("a", { fault: "status", status: 429, retryAfter: "60" });
    mockProvider.script("b", { fault: "status" });
    expect((await collectRun(chain)).end.type).toBe("error");
    expect(chain.listModels().map(({ state }) => state)).toEqual(["cooling_down", "cooling_down"]);
    mockProvider.reset();
    const { end } = await collectRun(chain);
    expect(end).toMatchObject({ type: "finish", model: "anthropic/b" });
    expect(mockProvider.listRequests("a").length).toBe(0);
  });

  test("isn't opened by rejected requests or aborted runs", async () => {
    const chain = createTestChain(mockProvider, ["openai/model"], { breaker: breakerOptions });
    mockProvider.script("model", { fault: "status", status: 400 });
    for (let index = 0; index < 5; index += 1) await collectRun(chain);
    mockProvider.script("model", { fault: "no_first_token" });
    for (let index = 0; index < 5; index += 1) await collectRun(chain, { signal: AbortSignal.timeout(10) });
    expect(chain.listModels()[0]?.state).toBe("available");
  });

  test("allows one attempt at a time while half-open, until the attempt's first token", async () => {
    const chain = createTestChain(mockProvider, ["openai/model", "anthropic/normal"], {
      breaker: breakerOptions,
      maxRetries: 2,
    });
    mockProvider.script("model", { fault: "status" });
    await collectRun(chain);
    await Bun.sleep(280);
    mockProvider.reset();
    mockProvider.script("model", { firstDelayMs: 60 });
    const runs = await Promise.all([collectRun(chain), collectRun(chain), collectRun(chain)]);
    const models = runs.map(({ end }) => end.models[0]).sort();
    expect(models).toEqual(["anthropic/normal", "anthropic/normal", "openai/model"]);
  });
});

describe("a circuit breaker", () => {
  const admitAttempt = (breaker: ReturnType<typeof createBreaker>) => {
    const attempt = breaker.tryAdmit();
    if (!attempt) throw new Error("not admitted");
    return attempt;
  };

  test("resets its failure count after a success", () => {
    const breaker = createBreaker(breakerOptions);
    for (const shouldSucceed of [false, false, true, false, false])
      shouldSucceed ? admitAttempt(breaker).succeed() : admitAttempt(breaker).fail();
    expect(breaker.getState().state).toBe("available");
    admitAttempt(breaker).fail();
    expect(breaker.getState().state).toBe("cooling_down");
    expect(breaker.tryAdmit()).toBeNull();
  });

  test("doubles its cooldown after a failed half-open attempt, up to the maximum", async () => {
    const breaker = createBreaker({ failuresMax: 1, coolDownMs: 100, coolDownMaxMs: 150 });
    const getRemainingCooldownMs = () => {
      const state = breaker.getState();
      return state.state === "cooling_down" ? state.until.getTime() - Date.now() : 0;
    };
    admitAttempt(breaker).fail();
    expect(getRemainingCooldownMs()).toBeLessThanOrEqual(100);
    await Bun.sleep(110);
    admitAttempt(breaker).fail();
    expect(getRemainingCooldownMs()).toBeGreaterThan(100);
    expect(getRemainingCooldownMs()).toBeLessThanOrEqual(150);
  });

  test("allows the next half-open attempt if one ends without a result", async () => {
    const breaker = createBreaker({ failuresMax: 1, coolDownMs: 5, coolDownMaxMs: 5 });
    admitAttempt(breaker).fail();
    await Bun.sleep(10);
    const firstAttempt = admitAttempt(breaker);
    expect(breaker.tryAdmit()).toBeNull();
    firstAttempt.release();
    const nextAttempt = admitAttempt(breaker);
    nextAttempt.recordFirstToken();
    expect(breaker.tryAdmit()).not.toBeNull();
  });

  test("opens immediately after a long Retry-After, but not after a short one", () => {
    const breaker = createBreaker({ ...breakerOptions, coolDownMaxMs: 300_000 });
    admitAttempt(breaker).fail({ retryAfterMs: 1_000 });
    expect(breaker.getState().state).toBe("available");
    admitAttempt(breaker).fail({ retryAfterMs: 60_000 });
    const state = breaker.getState();
    expect(state.state === "cooling_down" && state.until.getTime() - Date.now()).toBeGreaterThan(59_000);
  });

  test("ignores the results of attempts that started before it opened", async () => {
    const breaker = createBreaker({ failuresMax: 1, coolDownMs: 5, coolDownMaxMs: 1_000 });
    const [failedAttempt, successfulAttempt, lateAttempt] = [
      admitAttempt(breaker),
      admitAttempt(breaker),
      admitAttempt(breaker),
    ];
    failedAttempt.fail();
    successfulAttempt.succeed();
    expect(breaker.getState().state).toBe("cooling_down");
    await Bun.sleep(10);
    lateAttempt.fail();
    expect(breaker.getState().state).toBe("available");
  });
});
