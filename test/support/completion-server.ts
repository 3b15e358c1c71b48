import type { AnswerPart, RunEnd, RunFailure } from "../../src/ai/answer-part.ts";
import type { ProviderErrorCode, PushPart } from "../../src/ai/provider.ts";
import { respondInChunks, respondInFull } from "../../src/modules/openai/respond.ts";
import type { RunCallbacks } from "../../src/modules/openai/service.ts";

export type FakeRun = (push: PushPart<AnswerPart>, callbacks: RunCallbacks) => Promise<RunEnd>;

const account = { models: ["a/b"], usage: null, costUsd: null };
const TEST_MODEL = "a/b";

/** The end of an answer. */
export const finish = (more: Partial<Extract<RunEnd, { type: "finish" }>> = {}): RunEnd => ({
  type: "finish",
  model: TEST_MODEL,
  reason: "stop",
  toolCalls: [],
  ...account,
  ...more,
});

/** The end of a run whose model failed. */
export const failure = (code: ProviderErrorCode, more: Partial<RunFailure> = {}): RunEnd => ({
  type: "error",
  code,
  detail: "A sentence of ours.",
  model: TEST_MODEL,
  status: null,
  retryAfterMs: null,
  providerCode: null,
  param: null,
  ...account,
  ...more,
});

/** A run that was aborted. */
export const aborted: RunEnd = { type: "aborted", model: null, ...account };

/** Pushes an answer's text, as a chain does. */
export function pushText(push: PushPart<AnswerPart>, ...texts: string[]): void {
  push({ type: "start", model: TEST_MODEL, attempt: 1 });
  for (const text of texts) push({ type: "text", text });
}

/**
 * Serves `/v1/chat/completions` with runs that a test scripts, instead of models, so that their timing and ends are
 * exact. The server closes idle connections after a second, unless configured otherwise.
 * @param preparesMs the delay before an answer begins.
 */
export function startCompletionServer({ preparesMs = 0 } = {}) {
  let nextRun: FakeRun = async () => finish();
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
      await Bun.sleep(preparesMs);
      const left = Promise.withResolvers<RunEnd>();
      const completion = {
        id: "chatcmpl-1",
        created: 1,
        sealThinking: () => null,
        showsReasoning: true,
        async run(push: PushPart<AnswerPart>, callbacks: RunCallbacks = { onActivity() {}, onEnd() {} }) {
          return Promise.race([run(push, callbacks), left.promise]).finally(() => callbacks.onEnd());
        },
        leave() {
          disconnects += 1;
          left.resolve(aborted);
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
    /** Scripts the answers to the next requests. */
    answerWith(run: FakeRun): void {
      nextRun = run;
    },
    /** How many readers have disconnected, or streams have ended. */
    disconnects: () => disconnects,
    stop: () => server.stop(true),
  };
}
