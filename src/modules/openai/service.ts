import { type Caller, keyIdOf } from "../../access/caller.ts";
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
import type { BudgetService } from "../budgets/service.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { openExchange, STORE_WAIT_MS } from "./exchange.ts";
import type { CompletionHead } from "./map-answer.ts";
import { mapToOpenAiModel } from "./map-model.ts";
import type { CompletionRequest } from "./map-request.ts";
import type { OpenAiModel } from "./model-list.ts";
import { createRunningRequests } from "./running.ts";
import { createSettlements, type Settlement } from "./settlements.ts";
import { openThinking, type SealedThinking } from "./thinking.ts";

export { STORING_MAX, STORING_PER_USER_MAX } from "./settlements.ts";

/** Serves OpenAI clients through the same chain as conversations. */
export interface CompletionService {
  /**
   * For every user, with any configured model. A conversation in the request requires write access and, for API keys, the
   * scope `messages:write`. The request ends with the credential, and with write access to the conversation.
   * @throws Problem `unknown_model`, `invalid` (a format that the model doesn't support), `not_found`, `forbidden`,
   * `rate_limited`, `budget_exceeded`, `quota_exceeded`, `draining`, `unavailable`.
   */
  start(caller: Caller, request: CompletionRequest): Promise<RunningCompletion>;

  /** For every user: the configured models in OpenAI's format. */
  listModels(): OpenAiModel[];

  /** For every user. @throws Problem `unknown_model`. */
  getModel(id: string): OpenAiModel;

  /**
   * Waits until the answers in progress have ended and are stored; those left are aborted shortly before `deadlineMs` (since
   * 1970).
   */
  drain(deadlineMs: number): Promise<void>;
}

/** One answer in progress. */
export type RunningCompletion = CompletionHead & {
  /**
   * Runs the model and pushes each part in the tick it arrives; only the first part waits until the question is stored. Must
   * be called exactly once, because it stores and charges the answer.
   * @throws Problem if the question can't be stored, or if the credential or the conversation has ended.
   */
  run(push: PushPart<AnswerPart>, callbacks?: RunCallbacks): Promise<RunEnd>;
  /** The reader disconnected: ends the run, unless it is stored. */
  leave(): void;
};

/** Callbacks of a run in addition to its parts. */
export type RunCallbacks = {
  /** The first bytes of a response body have arrived; called for each model tried. */
  onActivity(): void;
  /** The run has ended or failed. The promise resolves with the result once that is stored, or the wait for it is over. */
  onEnd(): void;
};

/** Concurrent requests per instance; more fail with 503. */
export const COMPLETIONS_MAX = 500;
const RETRY_AFTER_MS = 1_000;
/** Share of the shutdown time for waiting; the rest is for storing aborted answers. */
const DRAIN_SHARE = 0.8;
/** Unfinished storing is abandoned this long before the shutdown's deadline. */
const LAST_STORE_MS = 200;

type Dependencies = {
  chain: Chain;
  budgets: BudgetService;
  messages: MessageService;
  conversations: ConversationService;
  lifecycle: Lifecycle;
  /** Reserves one of the user's concurrent answers. @returns a function that releases it. @throws Problem `rate_limited`. */
  reserveAnswer(userId: string): Promise<() => void>;
  openStreams: Pick<OpenStreams, "add">;
  /** Whether reasoning is stored, and whether clients may read it. */
  storesReasoning: boolean;
  showsReasoning: boolean;
  sealedThinking: SealedThinking;
  metrics: Metrics;
  log: Log;
};

/** Builds the service. */
export function createCompletionService(deps: Dependencies): CompletionService {
  const { chain, budgets, lifecycle, reserveAnswer, sealedThinking, metrics } = deps;
  const settlements = createSettlements(deps);
  const running = createRunningRequests(deps.openStreams);
  /** Answers, in progress or ended, that are not settled yet. */
  const unsettled = new Set<Promise<void>>();

  function checkRoom({ model, options }: CompletionRequest): void {
    if (!chain.has(model)) throw createUnknownModel(model);
    const unsupported = chain.findUnsupported(model, options);
    if (unsupported !== null) throw createUnsupported(model, unsupported);
    if (options.format && !chain.canAnswerIn(options.format, model))
      throw createUnsupportedFormat(model, "#/response_format");
    if (lifecycle.phase === "draining")
      throw new Problem("draining", "This instance is shutting down. Retry the request.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
    if (running.count() >= COMPLETIONS_MAX)
      throw new Problem("unavailable", "Too many responses are in progress. Retry later.", {
        retryAfterMs: RETRY_AFTER_MS,
      });
  }

  async function prepare(caller: Caller, id: string, request: CompletionRequest) {
    const { model, messages, options, outputTokensMax } = request;
    const exchange = await openExchange(deps, caller, id, request);
    const payer = { userId: caller.user.id, keyId: keyIdOf(caller) };
    const countPromptTokens = () => {
      const tokens = countMessages(messages) + countThinking(messages) + countOptions(options);
      return Math.ceil(tokens * ESTIMATE_MARGIN);
    };
    return { exchange, reservation: await budgets.reserve({ payer, model, countPromptTokens, outputTokensMax }) };
  }

  /** @returns also the function that releases the user's slot at the end of the answer. */
  async function admit(caller: Caller, id: string, request: CompletionRequest) {
    const release = await reserveAnswer(caller.user.id);
    try {
      return { ...(await prepare(caller, id, request)), release };
    } catch (error) {
      release();
      throw error;
    }
  }

  function count(end: RunEnd, startedAtMs: number): void {
    const model = end.model ?? "none";
    const outcome = { finish: "complete", error: "failed", aborted: "cancelled" }[end.type];
    metrics.generations.inc({ model, outcome });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  return {
    async start(caller, completionRequest) {
      if (completionRequest.conversationId !== null) requireScope(caller.scopes, "messages:write");
      checkRoom(completionRequest);
      const id = createId();
      const userId = caller.user.id;
      const open = (sealed: string) => sealedThinking.open(userId, sealed);
      const request = {
        ...completionRequest,
        messages: openThinking(completionRequest.messages, completionRequest.sealedThinking, open),
      };
      // The slot is taken in the same tick as the check: other requests may arrive while this one waits.
      const entry = running.add(caller, request.conversationId);
      const { exchange, reservation, release } = await admit(caller, id, request).catch((error) => {
        running.remove(entry);
        throw error;
      });
      const payer = { userId, reservationId: reservation.id };
      const { promise: settled, resolve } = Promise.withResolvers<void>();
      const { abort } = entry;
      const startedAtMs = performance.now();
      unsettled.add(settled);

      async function run(push: PushPart<AnswerPart>, signs?: RunCallbacks): Promise<RunEnd> {
        let settlement: Settlement | undefined;
        let text = "";
        let reasoning = "";
        let firstTokenMs: number | null = null;
        /** Why the question could not be stored. It ends the run, which is charged anyway. */
        let refusal: { error: unknown } | null = null;
        const refuse = (error: unknown): void => {
          refusal = { error };
          abort.abort();
        };
        const take = (part: AnswerPart): Promise<void> | undefined => {
          text = applyPart(text, part);
          if (part.type === "text") firstTokenMs ??= fitCount(performance.now() - startedAtMs);
          else reasoning = applyReasoning(reasoning, part);
          if (part.type === "start" && exchange) return exchange.begin().then(() => push(part), refuse);
          if (!refusal) push(part);
          return undefined;
        };
        try {
          const { model, messages, options, isStreamed } = request;
          const { outputTokensMax } = reservation;
          const { signal } = abort;
          // A stored answer has this id as a message.
          const about = { message_id: id, request_id: caller.requestId ?? null };
          const { onActivity } = signs ?? {};
          const isRepairable = !isStreamed;
          const chainRequest = { model, messages, options, outputTokensMax, isRepairable, signal, onActivity, about };
          const end = await follow(chain.run, chainRequest, take).finally(signs?.onEnd);
          count(end, startedAtMs);
          const isStored = exchange && !refusal && entry.stopped?.reason !== "conversation";
          settlement = settlements.begin(
            payer,
            end,
            isStored ? () => exchange.end(end, { text, reasoning, firstTokenMs }) : undefined,
          );
          await Promise.race([settlement.done, Bun.sleep(STORE_WAIT_MS)]);
          throwRefusal(refusal);
          if (end.type === "aborted" && entry.stopped) throw entry.stopped.problem;
          return end;
        } finally {
          settlement ??= settlements.begin(payer, { usage: null, costUsd: null }, undefined);
          release();
          running.remove(entry);
          settlement.leave();
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
        leave: () => {
          if (exchange === null) abort.abort();
        },
      };
    },

    listModels: () => chain.models().map((model) => mapToOpenAiModel(model, chain.describe(model.id))),

    getModel(id) {
      const model = chain.models().find((candidate) => candidate.id === id);
      if (!model) throw createUnknownModel(id);
      return mapToOpenAiModel(model, chain.describe(id));
    },

    async drain(deadlineMs) {
      const all = () => Promise.all(unsettled);
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_SHARE)]);
      running.abortAll();
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now() - LAST_STORE_MS))]);
      settlements.stop();
      await all();
    },
  };
}

function createUnsupported(model: string, field: string): Problem {
  const detail = `${field} is not supported by ${model}. Leave it out, or choose another model.`;
  const errors = [{ pointer: `#/${field}`, detail }];
  return new Problem("invalid", detail, { openAiCode: "unsupported_parameter", errors });
}

/** A function, because the compiler assumes null for a variable that only a callback sets. */
function throwRefusal(refusal: { error: unknown } | null): void {
  if (refusal) throw refusal.error;
}
