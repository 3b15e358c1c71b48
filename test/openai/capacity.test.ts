import { expect, test } from "bun:test";
import type { Caller } from "../../src/access/caller.ts";
import { createOpenStreams } from "../../src/access/open-streams.ts";
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

/** Every conversation is locked until `unlock` is called. */
function createService() {
  const counts = { charged: 0, stored: 0, givenUp: 0 };
  let isLocked = true;
  const places = { held: 0, areRefused: false };
  const openStreams = createOpenStreams();
  const deps = {
    chain: {
      has: () => true,
      findUnsupported: () => null,
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
        if (places.areRefused) throw new Problem("budget_exceeded", "Nothing is left.");
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
      places.held += 1;
      return () => {
        places.held -= 1;
      };
    },
    metrics: createMetrics({ version: "test", commit: "test" }),
    log: {
      error() {
        counts.givenUp += 1;
      },
    },
  };
  const service = createCompletionService(deps as unknown as Parameters<typeof createCompletionService>[0]);
  const start = (userId: string) => {
    const caller = { user: { id: userId }, scopes: null } as unknown as Caller;
    const request = { model: "a/b", messages: [], options: {}, conversationId: createId(), question: null };
    return service.start(caller, request as unknown as CompletionRequest);
  };
  const ask = async (userId: string) => {
    const completion = await start(userId);
    const types: string[] = [];
    const end = await completion.run((part) => types.push(part.type));
    expect([...types, end.type]).toEqual(["start", "text", "finish"]);
  };
  const unlock = () => {
    isLocked = false;
  };
  return { service, openStreams, counts, places, start, ask, unlock };
}

test("answers waiting to be stored use no request slots; beyond a total limit they are only charged", async () => {
  const { service, counts, ask, unlock } = createService();
  const users = Array.from({ length: STORING_MAX / STORING_PER_USER_MAX }, () => createId());
  await Promise.all(users.flatMap((user) => Array.from({ length: STORING_PER_USER_MAX }, () => ask(user))));
  expect(counts).toEqual({ charged: STORING_MAX, stored: 0, givenUp: 0 });
  expect(STORING_MAX).toBeGreaterThanOrEqual(COMPLETIONS_MAX);
  await ask(createId());
  await Bun.sleep(10);
  expect(counts).toEqual({ charged: STORING_MAX + 1, stored: 0, givenUp: 1 });
  unlock();
  await service.drain(Date.now() + 5_000);
  expect(counts.stored).toBe(STORING_MAX);
}, 20_000);

test("limits the waiting answers of one user further", async () => {
  const { service, counts, ask, unlock } = createService();
  const user = createId();
  await Promise.all(Array.from({ length: STORING_PER_USER_MAX + 10 }, () => ask(user)));
  await Bun.sleep(10);
  expect(counts).toEqual({ charged: STORING_PER_USER_MAX + 10, stored: 0, givenUp: 10 });
  unlock();
  await service.drain(Date.now() + 5_000);
  expect(counts.stored).toBe(STORING_PER_USER_MAX);
}, 20_000);

test("concurrent requests get the available slots, and failed ones release theirs", async () => {
  const { openStreams, places, start, ask, unlock } = createService();
  unlock();
  const startAll = (count: number) => Promise.allSettled(Array.from({ length: count }, () => start(createId())));
  places.areRefused = true;
  const failed = await startAll(COMPLETIONS_MAX);
  expect(failed.every(({ status }) => status === "rejected")).toBeTrue();
  expect([openStreams.count(), places.held]).toEqual([0, 0]);

  places.areRefused = false;
  const results = await startAll(COMPLETIONS_MAX + 100);
  const started = results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
  const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason.code] : []));
  expect(started.length).toBe(COMPLETIONS_MAX);
  expect(reasons).toEqual(Array(100).fill("unavailable"));
  await Promise.all(started.map(({ run }) => run(() => {})));
  expect([openStreams.count(), places.held]).toEqual([0, 0]);
  await ask(createId());
}, 20_000);
