import { type Caller, getKeyId } from "../../access/caller.ts";
import type { OpenStreams } from "../../access/open-streams.ts";
import { requireScope } from "../../access/scopes.ts";
import { type AnswerPart, applyPart, applyReasoning, type RunEnd } from "../../ai/answer-part.ts";
import type { Chain } from "../../ai/chain/chain.ts";
import { follow } from "../../ai/chain/follow.ts";
import { createUnsupportedFormat } from "../../ai/format/check-format.ts";
import type { PushPart } from "../../ai/provider.ts";
import { countMessages, countOptions, countThinking, ESTIMATE_MARGIN } from "../../ai/tokens.ts";
import { fitCount } from "../../db/storable.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createUnknownModel, Problem } from "../../lib/problem.ts";
import { type Tracing, traced } from "../../lib/tracing/tracing.ts";
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
   * Starts a completion with any configured model, for any user. If the request names a conversation, it requires write access
   * and, for API keys, the scope `messages:write`. The request is aborted when the credential becomes invalid, or the caller loses
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
   * Runs the model, and pushes each part in the tick in which it arrives. Only the first part waits until the question is stored.
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
  /** Called when the run has finished. The promise of `run` resolves later: after storing the result, or a timeout. */
  onEnd(): void;
};

/** Maximum concurrent requests per instance. Further ones fail with 503. */
export const COMPLETIONS_MAX = 500;
const RETRY_AFTER_MS = 1_000;
/** Fraction of the shutdown time in which answers can finish. The rest is for storing aborted answers. */
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
  storesReasoning: boolean;
  /** Whether clients may read reasoning. */
  showsReasoning: boolean;
  sealedThinking: SealedThinking;
  metrics: Metrics;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
};

export function createCompletionService(deps: Dependencies): CompletionService {
  const { chain, budgets, lifecycle, reserveAnswer, sealedThinking, metrics, tracing = null } = deps;
  const settlements = createSettlements(deps);
  const running = createRequestRegistry(deps.openStreams);
  /** Answers that have not been stored and charged. */
  const unsettled = new Set<Promise<void>>();

  function checkRequest({ model, options }: CompletionRequest): void {
    if (!chain.has(model)) throw createUnknownModel(model);
    const unsupported = chain.findUnsupported(model, options);
    if (unsupported !== null) throw createUnsupportedParameter(model, unsupported);
    if (options.format && !chain.canAnswerIn(options.format, model))
      throw createUnsupportedFormat(model, "#/response_format");
    if (lifecycle.phase === "draining")
      throw new Problem("draining", "This instance is shutting down. Retry the request.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
    if (running.count() >= COMPLETIONS_MAX)
      throw new Problem("unavailable", "Too many answers are in progress. Retry later.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
  }

  async function prepare(caller: Caller, id: string, request: CompletionRequest) {
    const { model, messages, options, outputTokensMax } = request;
    const exchange = await prepareExchange(deps, caller, id, request);
    const payer = { userId: caller.user.id, keyId: getKeyId(caller) };
    const countPromptTokens = () => {
      const tokens = countMessages(messages) + countThinking(messages) + countOptions(options);
      return Math.ceil(tokens * ESTIMATE_MARGIN);
    };
    return { exchange, reservation: await budgets.reserve({ payer, model, countPromptTokens, outputTokensMax }) };
  }

  /** Prepares a request. Also returns a function that releases the user's slot, to be called at the end of the answer. */
  async function acquireAndPrepare(caller: Caller, id: string, request: CompletionRequest) {
    const release = await reserveAnswer(caller.user.id);
    try {
      return { ...(await prepare(caller, id, request)), release };
    } catch (error) {
      release();
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
      const openSealed = (sealed: string) => sealedThinking.open(userId, sealed);
      const request = {
        ...completionRequest,
        messages: addDecryptedThinking(completionRequest.messages, completionRequest.sealedThinking, openSealed),
      };
      // Added in the same tick as the check, so that concurrent requests can't exceed the limit.
      const runningRequest = running.add(caller, request.conversationId);
      const { exchange, reservation, release } = await acquireAndPrepare(caller, id, request).catch((error) => {
        running.remove(runningRequest);
        throw error;
      });
      const payer = { userId, reservationId: reservation.id };
      const { promise: settled, resolve } = Promise.withResolvers<void>();
      const { abort } = runningRequest;
      const startedAtMs = performance.now();
      unsettled.add(settled);

      async function run(push: PushPart<AnswerPart>, callbacks?: RunCallbacks): Promise<RunEnd> {
        let settlement: Settlement | undefined;
        let text = "";
        let reasoning = "";
        let firstTokenMs: number | null = null;
        /** The error if the question can't be stored. The run is then aborted, but the usage is charged. */
        let storeFailure: { error: unknown } | null = null;
        const onStoreFailure = (error: unknown): void => {
          storeFailure = { error };
          abort.abort();
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
          const { signal } = abort;
          // If the answer is stored, its message has this id.
          const about = { message_id: id, request_id: caller.requestId ?? null };
          const { onActivity } = callbacks ?? {};
          const isRepairable = !isStreamed;
          const chainRequest = { model, messages, options, outputTokensMax, isRepairable, signal, onActivity, about };
          const runPromise = traced(tracing, "generate answer", {}, () => follow(chain.run, chainRequest, onPart));
          const end = await runPromise.finally(callbacks?.onEnd);
          recordMetrics(end, startedAtMs);
          const isStored = exchange && !storeFailure && runningRequest.streamEnd?.reason !== "conversation";
          settlement = settlements.start(
            payer,
            end,
            isStored ? () => exchange.end(end, { text, reasoning, firstTokenMs }) : undefined,
          );
          await Promise.race([settlement.done, Bun.sleep(STORE_WAIT_MS_MAX)]);
          rethrow(storeFailure);
          if (end.type === "aborted" && runningRequest.streamEnd) throw runningRequest.streamEnd.problem;
          return end;
        } finally {
          settlement ??= settlements.start(payer, { usage: null, costUsd: null }, undefined);
          release();
          running.remove(runningRequest);
          settlement.detach();
          void settlement.done.then(() => {
            unsettled.delete(settled);
            resolve();
          });
        }
      }
      return {
        id: `chatcmpl-${id}`,
        created: Math.floor(Date.now() / 1000),
        showsReasoning: deps.showsReasoning,
        sealThinking: (thinking) => sealedThinking.seal(userId, thinking),
        run,
        onDisconnect: () => {
          if (exchange === null) abort.abort();
        },
      };
    },

    listModels: () => chain.listModels().map((model) => mapToOpenAiModel(model, chain.describe(model.id))),

    getModel(id) {
      const model = chain.listModels().find((candidate) => candidate.id === id);
      if (!model) throw createUnknownModel(id);
      return mapToOpenAiModel(model, chain.describe(id));
    },

    async drain(deadlineMs) {
      const waitForAll = () => Promise.all(unsettled);
      await Promise.race([waitForAll(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_WAIT_FRACTION)]);
      running.abortAll();
      await Promise.race([waitForAll(), Bun.sleep(Math.max(0, deadlineMs - Date.now() - STORE_MARGIN_MS))]);
      settlements.stop();
      await waitForAll();
    },
  };
}

function createUnsupportedParameter(model: string, field: string): Problem {
  const detail = `${field} is not supported by ${model}. Omit it, or choose another model.`;
  const errors = [{ pointer: `#/${field}`, detail }];
  return new Problem("invalid", detail, { openAiCode: "unsupported_parameter", errors });
}

/** Rethrows an error, if there is one. Inline, TypeScript would assume null, because only a callback assigns the variable. */
function rethrow(storeFailure: { error: unknown } | null): void {
  if (storeFailure) throw storeFailure.error;
}
