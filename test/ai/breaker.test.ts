import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { createBreaker } from "../../src/ai/chain/breaker.ts";
import { type MockProvider, startMockProvider } from "../support/mock-provider/server.ts";
import { collect, createRecordingObserver, createTestChain } from "./collect.ts";

let mockProvider: MockProvider;
beforeAll(() => {
  mockProvider = startMockProvider();
});
afterEach(() => mockProvider.reset());
afterAll(() => mockProvider.stop());

const breakerOptions = { failuresMax: 3, coolDownMs: 250, coolDownMaxMs: 1_000 };

describe("the circuit breaker in a failover chain", () => {
  test("skips a failing model while it cools down, and uses it again after one successful attempt", async () => {
    const { observe, events } = createRecordingObserver();
    const chain = createTestChain(mockProvider, ["openai/model", "anthropic/normal"], {
      breaker: breakerOptions,
      observe,
      maxRetries: 2,
    });
    mockProvider.script("model", { fault: "status" });
    await collect(chain);
    expect(mockProvider.listRequests("model").length).toBe(3);
    const [first, second] = chain.listModels();
    expect(first).toEqual({ id: "openai/model", provider: "openai", state: "cooling_down", until: expect.any(Date) });
    expect(second).toEqual({ id: "anthropic/normal", provider: "anthropic", state: "available" });

    expect((await collect(chain)).end).toMatchObject({ type: "finish", model: "anthropic/normal" });
    expect(mockProvider.listRequests("model").length).toBe(3);

    await Bun.sleep(280);
    mockProvider.script("model", { text: "back" });
    expect((await collect(chain)).end).toMatchObject({ type: "finish", model: "openai/model" });
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
    expect((await collect(chain)).end.type).toBe("error");
    expect(chain.listModels().map(({ state }) => state)).toEqual(["cooling_down", "cooling_down"]);
    mockProvider.reset();
    const { end } = await collect(chain);
    expect(end).toMatchObject({ type: "finish", model: "anthropic/b" });
    expect(mockProvider.listRequests("a").length).toBe(0);
  });

  test("isn't opened by rejected requests or aborted runs", async () => {
    const chain = createTestChain(mockProvider, ["openai/model"], { breaker: breakerOptions });
    mockProvider.script("model", { fault: "status", status: 400 });
    for (let index = 0; index < 5; index += 1) await collect(chain);
    mockProvider.script("model", { fault: "no_first_token" });
    for (let index = 0; index < 5; index += 1) await collect(chain, { signal: AbortSignal.timeout(10) });
    expect(chain.listModels()[0]?.state).toBe("available");
  });

  test("allows one attempt at a time while half-open, until its first token", async () => {
    const chain = createTestChain(mockProvider, ["openai/model", "anthropic/normal"], {
      breaker: breakerOptions,
      maxRetries: 2,
    });
    mockProvider.script("model", { fault: "status" });
    await collect(chain);
    await Bun.sleep(280);
    mockProvider.reset();
    mockProvider.script("model", { firstDelayMs: 60 });
    const runs = await Promise.all([collect(chain), collect(chain), collect(chain)]);
    const models = runs.map(({ end }) => end.models[0]).sort();
    expect(models).toEqual(["anthropic/normal", "anthropic/normal", "openai/model"]);
  });
});

describe("a circuit breaker", () => {
  const admit = (breaker: ReturnType<typeof createBreaker>) => {
    const report = breaker.tryAdmit();
    if (!report) throw new Error("not admitted");
    return report;
  };

  test("resets its failure count after a success", () => {
    const breaker = createBreaker(breakerOptions);
    for (const hasSucceeded of [false, false, true, false, false])
      hasSucceeded ? admit(breaker).succeed() : admit(breaker).fail();
    expect(breaker.state().state).toBe("available");
    admit(breaker).fail();
    expect(breaker.state().state).toBe("cooling_down");
    expect(breaker.tryAdmit()).toBeNull();
  });

  test("doubles its cooldown after a failed half-open attempt, up to the maximum", async () => {
    const breaker = createBreaker({ failuresMax: 1, coolDownMs: 100, coolDownMaxMs: 150 });
    const cooldownMs = () => {
      const state = breaker.state();
      return state.state === "cooling_down" ? state.until.getTime() - Date.now() : 0;
    };
    admit(breaker).fail();
    expect(cooldownMs()).toBeLessThanOrEqual(100);
    await Bun.sleep(110);
    admit(breaker).fail();
    expect(cooldownMs()).toBeGreaterThan(100);
    expect(cooldownMs()).toBeLessThanOrEqual(150);
  });

  test("allows the next half-open attempt if one ends without a result", async () => {
    const breaker = createBreaker({ failuresMax: 1, coolDownMs: 5, coolDownMaxMs: 5 });
    admit(breaker).fail();
    await Bun.sleep(10);
    const first = admit(breaker);
    expect(breaker.tryAdmit()).toBeNull();
    first.release();
    const next = admit(breaker);
    next.firstToken();
    expect(breaker.tryAdmit()).not.toBeNull();
  });

  test("opens immediately after a long Retry-After, but not after a short one", () => {
    const breaker = createBreaker({ ...breakerOptions, coolDownMaxMs: 300_000 });
    admit(breaker).fail({ retryAfterMs: 1_000 });
    expect(breaker.state().state).toBe("available");
    admit(breaker).fail({ retryAfterMs: 60_000 });
    const state = breaker.state();
    expect(state.state === "cooling_down" && state.until.getTime() - Date.now()).toBeGreaterThan(59_000);
  });

  test("ignores the results of attempts that started before it opened", async () => {
    const breaker = createBreaker({ failuresMax: 1, coolDownMs: 5, coolDownMaxMs: 1_000 });
    const [first, other, third] = [admit(breaker), admit(breaker), admit(breaker)];
    first.fail();
    other.succeed();
    expect(breaker.state().state).toBe("cooling_down");
    await Bun.sleep(10);
    third.fail();
    expect(breaker.state().state).toBe("available");
  });
});
