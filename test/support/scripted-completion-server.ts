import type { AnswerPart, RunEnd, RunFailure } from "../../src/ai/answer-part.ts";
import type { ProviderErrorCode, PushPart } from "../../src/ai/provider.ts";
import { respondInChunks, respondInFull } from "../../src/modules/openai/respond.ts";
import type { RunCallbacks } from "../../src/modules/openai/service.ts";

export type ScriptedRun = (push: PushPart<AnswerPart>, callbacks: RunCallbacks) => Promise<RunEnd>;

const accounting = { models: ["a/b"], usage: null, costUsd: null };
const TEST_MODEL = "a/b";

/** Creates the result of a successful run. */
export const createFinish = (overrides: Partial<Extract<RunEnd, { type: "finish" }>> = {}): RunEnd => ({
  type: "finish",
  model: TEST_MODEL,
  reason: "stop",
  toolCalls: [],
  ...accounting,
  ...overrides,
});

/** Creates the result of a run whose model failed. */
export const createFailure = (code: ProviderErrorCode, overrides: Partial<RunFailure> = {}): RunEnd => ({
  type: "error",
  code,
  detail: "The model failed.",
  model: TEST_MODEL,
  status: null,
  retryAfterMs: null,
  providerCode: null,
  param: null,
  ...accounting,
  ...overrides,
});

/** The result of an aborted run. */
export const abortedRun: RunEnd = { type: "aborted", model: null, ...accounting };

/** Pushes an answer's text, as a failover chain does. */
export function pushText(push: PushPart<AnswerPart>, ...pieces: string[]): void {
  push({ type: "start", model: TEST_MODEL, attempt: 1 });
  for (const text of pieces) push({ type: "text", text });
}

/**
 * Serves `/v1/chat/completions` with scripted runs instead of models, so that a test controls the timing and the result
 * of each run. Bun closes idle connections after a second unless the code under test disables that timeout.
 * @param startDelayMs The delay before a run starts.
 */
export function startCompletionServer({ startDelayMs = 0 } = {}) {
  let nextRun: ScriptedRun = async () => createFinish();
  let disconnects = 0;
  const server = Bun.serve({
    port: 0,
    idleTimeout: 1,
    async fetch(request, self) {
      const { stream = false, stream_options } = (await request.json()) as {
        stream?: boolean;
        stream_options?: { include_usage?: boolean };
      };
      const run = nextRun;
      await Bun.sleep(startDelayMs);
      const disconnected = Promise.withResolvers<RunEnd>();
      const completion = {
        id: "chatcmpl-1",
        created: 1,
        sealThinking: () => null,
        shouldShowReasoning: true,
        async run(push: PushPart<AnswerPart>, callbacks: RunCallbacks = { onActivity() {}, onEnd() {} }) {
          return Promise.race([run(push, callbacks), disconnected.promise]).finally(() => callbacks.onEnd());
        },
        onDisconnect() {
          disconnects += 1;
          disconnected.resolve(abortedRun);
        },
      };
      const connection = { request, server: self };
      if (stream) return respondInChunks(completion, stream_options?.include_usage ?? false, connection);
      return respondInFull(completion, connection);
    },
  });
  return {
    url: `http://127.0.0.1:${server.port}/v1`,
    port: server.port ?? 0,
    /** Sets the run for the next requests. */
    scriptRun(run: ScriptedRun): void {
      nextRun = run;
    },
    /** Returns how often `onDisconnect` was called because a client disconnected or a stream was closed. */
    countDisconnects: () => disconnects,
    stop: () => server.stop(true),
  };
}
