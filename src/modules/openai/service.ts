import { type Caller, getKeyId } from "../../access/caller.ts";
import type { OpenStreams } from "../../access/open-streams.ts";
import { requireScope } from "../../access/scopes.ts";
import { type AnswerPart, applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import type { Chain } from "../../ai/chain/chain.ts";
import { followRun } from "../../ai/chain/follow.ts";
import { createUnsupportedFormatProblem } from "../../ai/format/check-format.ts";
import type { PushPart } from "../../ai/provider.ts";
import { ESTIMATE_MARGIN, estimateOptionTokens, estimateThinkingTokens, estimateTotalTokens } from "../../ai/tokens.ts";
import { fitCount } from "../../db/storable.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createUnknownModelProblem, Problem } from "../../lib/problem.ts";
import { runTraced, type Tracing } from "../../lib/tracing/tracing.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { prepareExchange, STORE_WAIT_MS_MAX } from "./exchange.ts";
import type { CompletionContext } from "./map-answer.ts";
import { mapToOpenAiModel } from "./map-model.ts";
import type { CompletionRequest } from "./map-request.ts";
import type { OpenAiModel } from "./model-list.ts";
import { createRequestRegistry } from "./running.ts";
import { createSettlements, type Settlement } from "./settlements.ts";
import { addDecryptedThinking, type SealedThinking } from "./thinking.ts";

export { STORING_MAX, STORING_PER_USER_MAX } from "./settlements.ts";

/** Creates completions for OpenAI clients, with the same failover as in conversations. */
export interface CompletionService {
  /**
   * Starts a completion with any configured model, for any user. If the request specifies a conversation, the caller needs write
   * access to it and, for API keys, the scope `messages:write`. The request is aborted when the credential becomes invalid, or the caller loses
   * write access to the conversation.
   * @throws Problem `unknown_model`, `invalid` (a format that the model doesn't support), `not_found`, `forbidden`,
   * `rate_limited`, `budget_exceeded`, `quota_exceeded`, `draining`, `unavailable`.
   */
  start(caller: Caller, request: CompletionRequest): Promise<RunningCompletion>;

  /** Lists the configured models in OpenAI's format, for any user. */
  listModels(): OpenAiModel[];

  /** Returns a configured model, for any user. @throws Problem `unknown_model`. */
  getModel(id: string): OpenAiModel;

  /**
   * Waits until the answers in progress are complete and stored. Shortly before `deadlineMs` (since 1970), the remaining ones are
   * aborted.
   */
  drain(deadlineMs: number): Promise<void>;
}

/** An answer in progress. */
export type RunningCompletion = CompletionContext & {
  /**
   * Runs the model, and pushes each part as soon as it arrives. Only the first part waits until the question is stored.
   * Must be called exactly once, because it also stores and charges the answer.
   * @throws Problem if the question can't be stored, the credential has become invalid, or the conversation was deleted.
   */
  run(push: PushPart<AnswerPart>, callbacks?: RunCallbacks): Promise<RunEnd>;
  /** Call this when the client disconnects. Aborts the run, unless the answer is stored in a conversation. */
  onDisconnect(): void;
};

/** Callbacks of a run, in addition to `push`. */
export type RunCallbacks = {
  /** Called for each attempt when the first bytes of the response body arrive. */
  onActivity(): void;
  /** Called when the run has finished. The promise of `run` resolves later, after the result was stored or storing timed out. */
  onEnd(): void;
};

/** Maximum number of concurrent requests per instance. Further ones fail with 503. */
export const COMPLETIONS_MAX = 500;
const RETRY_AFTER_MS = 1_000;
/** Fraction of the shutdown time in which answers can finish. The remaining time is for storing aborted answers. */
const DRAIN_WAIT_FRACTION = 0.8;
/** Time before the shutdown's deadline at which storing is abandoned. */
const STORE_MARGIN_MS = 200;

type Dependencies = {
  chain: Chain;
  budgets: BudgetService;
  messages: MessageService;
  conversations: ConversationService;
  lifecycle: Lifecycle;
  /** Acquires one of the user's slots for concurrent answers. Returns a function that releases it. @throws Problem `rate_limited`. */
  reserveAnswer(userId: string): Promise<() => void>;
  openStreams: Pick<OpenStreams, "add">;
  /** Whether reasoning is stored. */
  shouldStoreReasoning: boolean;
  /** Whether clients may read reasoning. */
  shouldShowReasoning: boolean;
  sealedThinking: SealedThinking;
  metrics: Metrics;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
};

export function createCompletionService(deps: Dependencies): CompletionService {
  const { chain, budgets, lifecycle, reserveAnswer, sealedThinking, metrics, tracing = null } = deps;
  const settlements = createSettlements(deps);
  const runningRequests = createRequestRegistry(deps.openStreams);
  /** A promise for each answer that has not been stored and charged. */
  const unsettledAnswers = new Set<Promise<void>>();

  function checkRequest({ model, options }: CompletionRequest): void {
    if (!chain.has(model)) throw createUnknownModelProblem(model);
    const unsupportedField = chain.findUnsupportedField(model, options);
    if (unsupportedField !== null) throw createUnsupportedParameterProblem(model, unsupportedField);
    if (options.format && !chain.canAnswerIn(options.format, model))
      throw createUnsupportedFormatProblem(model, "#/response_format");
    if (lifecycle.phase === "draining")
      throw new Problem("draining", "This instance is shutting down. Retry the request.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
    if (runningRequests.count() >= COMPLETIONS_MAX)
      throw new Problem("unavailable", "Too many answers are in progress. Retry later.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
  }

  async function prepare(caller: Caller, id: string, request: CompletionRequest) {
    const { model, messages, options, outputTokensMax } = request;
    const exchange = await prepareExchange(deps, caller, id, request);
    const payer = { userId: caller.user.id, keyId: getKeyId(caller) };
    const countPromptTokens = () => {
      const tokens = estimateTotalTokens(messages) + estimateThinkingTokens(messages) + estimateOptionTokens(options);
      return Math.ceil(tokens * ESTIMATE_MARGIN);
    };
    return { exchange, reservation: await budgets.reserve({ payer, model, countPromptTokens, outputTokensMax }) };
  }

  /** Acquires one of the user's slots, and prepares a request. The caller must release the slot at the end of the answer. */
  async function acquireAndPrepare(caller: Caller, id: string, request: CompletionRequest) {
    const releaseSlot = await reserveAnswer(caller.user.id);
    try {
      return { ...(await prepare(caller, id, request)), releaseSlot };
    } catch (error) {
      releaseSlot();
      throw error;
    }
  }

  function recordMetrics(end: RunEnd, startedAtMs: number): void {
    const model = end.model ?? "none";
    const outcome = { finish: "complete", error: "failed", aborted: "cancelled" }[end.type];
    metrics.generations.inc({ model, outcome });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  return {
    async start(caller, completionRequest) {
      if (completionRequest.conversationId !== null) requireScope(caller.scopes, "messages:write");
      checkRequest(completionRequest);
      const id = createId();
      const userId = caller.user.id;
      const decryptThinking = (sealed: string) => sealedThinking.open(userId, sealed);
      const request = {
        ...completionRequest,
        messages: addDecryptedThinking(completionRequest.messages, completionRequest.sealedThinking, decryptThinking),
      };
      // The request is added in the same tick as the check, so that concurrent requests can't exceed the limit.
      const runningRequest = runningRequests.add(caller, request.conversationId);
      const { exchange, reservation, releaseSlot } = await acquireAndPrepare(caller, id, request).catch((error) => {
        runningRequests.remove(runningRequest);
        throw error;
      });
      const payer = { userId, reservationId: reservation.id };
      const { promise: settled, resolve: resolveSettled } = Promise.withResolvers<void>();
      const { abortController } = runningRequest;
      const startedAtMs = performance.now();
      unsettledAnswers.add(settled);

      async function run(push: PushPart<AnswerPart>, callbacks?: RunCallbacks): Promise<RunEnd> {
        let settlement: Settlement | undefined;
        let text = "";
        let reasoning = "";
        let firstTokenMs: number | null = null;
        /** The error if the question can't be stored. The run is then aborted, but the usage is charged. */
        let storeFailure: { error: unknown } | null = null;
        const onStoreFailure = (error: unknown): void => {
          storeFailure = { error };
          abortController.abort();
        };
        const onPart = (part: AnswerPart): Promise<void> | undefined => {
          text = applyPart(text, part);
          if (part.type === "text") firstTokenMs ??= fitCount(performance.now() - startedAtMs);
          else reasoning = applyReasoning(reasoning, part);
          if (part.type === "start" && exchange) return exchange.begin().then(() => push(part), onStoreFailure);
          if (!storeFailure) push(part);
          return undefined;
        };
        try {
          const { model, messages, options, isStreamed } = request;
          const { outputTokensMax } = reservation;
          const { signal } = abortController;
          // If the answer is stored, its message has the id `id`.
          const logContext = { message_id: id, request_id: caller.requestId ?? null };
          const { onActivity } = callbacks ?? {};
          const isRepairable = !isStreamed;
          const chainRequest = {
            model,
            messages,
            options,
            outputTokensMax,
            isRepairable,
            signal,
            onActivity,
            logContext,
          };
          const runPromise = runTraced(tracing, "generate answer", {}, () =>
            followRun(chain.run, chainRequest, onPart),
          );
          const runEnd = await runPromise.finally(callbacks?.onEnd);
          recordMetrics(runEnd, startedAtMs);
          const isStored = exchange && !storeFailure && runningRequest.streamEnd?.reason !== "conversation";
          settlement = settlements.start(
            payer,
            runEnd,
            isStored ? () => exchange.end(runEnd, { text, reasoning, firstTokenMs }) : undefined,
          );
          await Promise.race([settlement.done, Bun.sleep(STORE_WAIT_MS_MAX)]);
          rethrow(storeFailure);
          if (runEnd.type === "aborted" && runningRequest.streamEnd) throw runningRequest.streamEnd.problem;
          return runEnd;
        } finally {
          settlement ??= settlements.start(payer, { usage: null, costUsd: null }, undefined);
          releaseSlot();
          runningRequests.remove(runningRequest);
          settlement.detach();
          void settlement.done.then(() => {
            unsettledAnswers.delete(settled);
            resolveSettled();
          });
        }
      }
      return {
        id: `chatcmpl-${id}`,
        created: Math.floor(Date.now() / 1000),
        shouldShowReasoning: deps.shouldShowReasoning,
        sealThinking: (thinking) => sealedThinking.seal(userId, thinking),
        run,
        onDisconnect: () => {
          if (exchange === null) abortController.abort();
        },
      };
    },

    listModels: () => chain.listModels().map((model) => mapToOpenAiModel(model, chain.describe(model.id))),

    getModel(id) {
      const model = chain.listModels().find((candidate) => candidate.id === id);
      if (!model) throw createUnknownModelProblem(id);
      return mapToOpenAiModel(model, chain.describe(id));
    },

    async drain(deadlineMs) {
      const waitForAll = () => Promise.all(unsettledAnswers);
      await Promise.race([waitForAll(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_WAIT_FRACTION)]);
      runningRequests.abortAll();
      await Promise.race([waitForAll(), Bun.sleep(Math.max(0, deadlineMs - Date.now() - STORE_MARGIN_MS))]);
      settlements.stop();
      await waitForAll();
    },
  };
}

function createUnsupportedParameterProblem(model: string, field: string): Problem {
  const detail = `${field} is not supported by ${model}. Omit it, or choose a different model.`;
  const errors = [{ pointer: `#/${field}`, detail }];
  return new Problem("invalid", detail, { openAiCode: "unsupported_parameter", errors });
}

/**
 * Rethrows an error, if there is one. This is a function because only a callback assigns the variable, so TypeScript would assume at
 * the call site that it is still null.
 */
function rethrow(storeFailure: { error: unknown } | null): void {
  if (storeFailure) throw storeFailure.error;
}
