import { expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import { createStreamRegistry } from "../../src/access/open-streams.ts";
import type { AnswerPart } from "../../src/ai/answer-part.ts";
import type { PushPart } from "../../src/ai/provider.ts";
import { createId } from "../../src/lib/id.ts";
import { createLifecycle } from "../../src/lib/lifecycle.ts";
import { createMetrics } from "../../src/lib/metrics.ts";
import { Problem } from "../../src/lib/problem.ts";
import type { CompletionRequest } from "../../src/modules/openai/map-request.ts";
import {
  COMPLETIONS_MAX,
  createCompletionService,
  STORING_MAX,
  STORING_PER_USER_MAX,
} from "../../src/modules/openai/service.ts";

/** Creates a completion service that can't store answers until `unlock` is called, as if every conversation were locked. */
function createService() {
  const counts = { charged: 0, stored: 0, notStored: 0 };
  let isLocked = true;
  const state = { slotsInUse: 0, isBudgetExceeded: false };
  const openStreams = createStreamRegistry();
  const deps = {
    chain: {
      has: () => true,
      findUnsupportedField: () => null,
      async run(_request: unknown, push: PushPart<AnswerPart>) {
        push({ type: "start", model: "a/b", attempt: 1 });
        push({ type: "text", text: "Hello." });
        return {
          type: "finish",
          model: "a/b",
          reason: "stop",
          toolCalls: [],
          models: ["a/b"],
          usage: null,
          costUsd: null,
        };
      },
    },
    budgets: {
      async reserve() {
        await Bun.sleep(1);
        if (state.isBudgetExceeded) throw new Problem("budget_exceeded", "Nothing is left.");
        return { id: createId(), outputTokensMax: null };
      },
      settle: async () => {
        counts.charged += 1;
      },
    },
    conversations: { getPosition: async () => ({ role: "owner" }) },
    messages: {
      async addAnswer() {
        if (isLocked) throw new Problem("overloaded", "Locked.");
        counts.stored += 1;
      },
    },
    lifecycle: createLifecycle(),
    openStreams,
    async reserveAnswer() {
      state.slotsInUse += 1;
      return () => {
        state.slotsInUse -= 1;
      };
    },
    metrics: createMetrics({ version: "test", commit: "test" }),
    log: {
      error() {
        counts.notStored += 1;
      },
    },
  };
  const service = createCompletionService(deps as unknown as Parameters<typeof createCompletionService>[0]);
  const startCompletion = (userId: string) => {
    const caller = { user: { id: userId }, scopes: null } as unknown as Caller;
    const request = { model: "a/b", messages: [], options: {}, conversationId: createId(), question: null };
    return service.start(caller, request as unknown as CompletionRequest);
  };
  const runCompletion = async (userId: string) => {
    const completion = await startCompletion(userId);
    const types: string[] = [];
    const end = await completion.run((part) => types.push(part.type));
    expect([...types, end.type]).toEqual(["start", "text", "finish"]);
  };
  const unlock = () => {
    isLocked = false;
  };
  return { service, openStreams, counts, state, startCompletion, runCompletion, unlock };
}

test("answers that wait to be stored use no request slots, and answers beyond the total limit are charged but not stored", async () => {
  const { service, counts, runCompletion, unlock } = createService();
  const users = Array.from({ length: STORING_MAX / STORING_PER_USER_MAX }, () => createId());
  await Promise.all(users.flatMap((user) => Array.from({ length: STORING_PER_USER_MAX }, () => runCompletion(user))));
  expect(counts).toEqual({ charged: STORING_MAX, stored: 0, notStored: 0 });
  expect(STORING_MAX).toBeGreaterThanOrEqual(COMPLETIONS_MAX);
  await runCompletion(createId());
  await Bun.sleep(10);
  expect(counts).toEqual({ charged: STORING_MAX + 1, stored: 0, notStored: 1 });
  unlock();
  await service.drain(Date.now() + 5_000);
  expect(counts.stored).toBe(STORING_MAX);
}, 20_000);

test("each user has a lower limit for answers that wait to be stored", async () => {
  const { service, counts, runCompletion, unlock } = createService();
  const user = createId();
  await Promise.all(Array.from({ length: STORING_PER_USER_MAX + 10 }, () => runCompletion(user)));
  await Bun.sleep(10);
  expect(counts).toEqual({ charged: STORING_PER_USER_MAX + 10, stored: 0, notStored: 10 });
  unlock();
  await service.drain(Date.now() + 5_000);
  expect(counts.stored).toBe(STORING_PER_USER_MAX);
}, 20_000);

test("concurrent requests can use every slot but no more, and failed requests release their slots", async () => {
  const { openStreams, state, startCompletion, runCompletion, unlock } = createService();
  unlock();
  const startCompletions = (count: number) =>
    Promise.allSettled(Array.from({ length: count }, () => startCompletion(createId())));
  state.isBudgetExceeded = true;
  const failedStarts = await startCompletions(COMPLETIONS_MAX);
  expect(failedStarts.every(({ status }) => status === "rejected")).toBeTrue();
  expect([openStreams.count(), state.slotsInUse]).toEqual([0, 0]);

  state.isBudgetExceeded = false;
  const results = await startCompletions(COMPLETIONS_MAX + 100);
  const startedCompletions = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const rejectionCodes = results.flatMap((result) => (result.status === "rejected" ? [result.reason.code] : []));
  expect(startedCompletions.length).toBe(COMPLETIONS_MAX);
  expect(rejectionCodes).toEqual(Array(100).fill("unavailable"));
  await Promise.all(startedCompletions.map(({ run }) => run(() => {})));
  expect([openStreams.count(), state.slotsInUse]).toEqual([0, 0]);
  await runCompletion(createId());
}, 20_000);
