import { type Caller, keyIdOf } from "../../access/caller.ts";
import type { Chain, ChainPart, ChainRequest } from "../../ai/chain.ts";
import { retryTemporary } from "../../db/retry.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createUnknownModel, Problem } from "../../lib/problem.ts";
import type { BudgetService, TokensAndCost } from "../budgets/service.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { type Exchange, openExchange, STORE_WAIT_MS } from "./exchange.ts";
import type { CompletionHead } from "./map-answer.ts";
import type { CompletionRequest } from "./map-request.ts";
import type { OpenAiModel } from "./model.ts";

/** Requests that one instance answers at the same time; more are answered 503. */
export const COMPLETIONS_MAX = 500;
/** Answers that were given and wait to be stored: on one instance, and of one user. More are only charged. */
export const STORING_MAX = 500;
export const STORING_PER_USER_MAX = 50;
const RETRY_AFTER_MS = 1_000;
/** Of the time that a shutdown leaves; the rest is for storing what was cut off. */
const DRAIN_SHARE = 0.8;
/** How long it is tried to store and to charge an answer; at a shutdown only until shortly before its deadline. */
const STORE_MS_MAX = 60_000;
const LAST_STORE_MS = 200;

type Dependencies = {
  chain: Chain;
  budgets: BudgetService;
  messages: MessageService;
  conversations: ConversationService;
  lifecycle: Lifecycle;
  /** Whether the user may have one more answer in progress. @returns for its end. @throws Problem `rate_limited`. */
  holdAnswer(userId: string): Promise<() => void>;
  metrics: Metrics;
  log: Log;
};

type LastPart = Extract<ChainPart, { type: "finish" | "error" | "aborted" }>;
type Running = { userId: string; abort: AbortController; done: Promise<void> };
type Parts = AsyncGenerator<ChainPart, void, undefined>;

/** One answer on its way. */
export type RunningCompletion = CompletionHead & {
  /** To be read to the end in any case: reading it has it stored and charged. */
  parts: Parts;
  /** The reader has gone: ends the run, unless it is stored. */
  leave(): void;
};

/** Answers for OpenAI's clients: any user, with any configured model, through the same chain as conversations. */
export function createCompletionService(deps: Dependencies) {
  const { chain, budgets, lifecycle, holdAnswer, metrics, log } = deps;
  const running = new Set<Running>();
  /** Those that have ended, until they are stored and charged; and those of them whose text waits to be stored. */
  const ended = new Set<Running>();
  const storing = new Set<Running>();
  const stopping = new AbortController();

  function checkRoom(model: string): void {
    if (!chain.has(model)) throw createUnknownModel(model);
    if (lifecycle.phase === "draining")
      throw new Problem("draining", "This instance is shutting down; ask again.", { retryAfterMs: RETRY_AFTER_MS });
    if (running.size >= COMPLETIONS_MAX)
      throw new Problem("unavailable", "Too many answers are being written.", { retryAfterMs: RETRY_AFTER_MS });
  }

  function reserve(caller: Caller, { model, messages, options, outputTokensMax }: CompletionRequest) {
    const promptBytes = Buffer.byteLength(JSON.stringify([messages, options.tools ?? []]));
    const payer = { userId: caller.user.id, keyId: keyIdOf(caller) };
    return budgets.reserve({ payer, model, promptBytes, outputTokensMax });
  }

  async function prepare(caller: Caller, id: string, request: CompletionRequest) {
    const exchange = await openExchange(deps, caller, id, request);
    return { exchange, reservation: await reserve(caller, request) };
  }

  /** The chain's parts; the exchange is stored on their way. */
  async function* follow(
    request: ChainRequest,
    exchange: Exchange | null,
    onEnd: (part: LastPart, text: string) => Promise<void>,
  ): Parts {
    let text = "";
    for await (const part of chain.run(request)) {
      if (part.type === "text") text += part.text;
      else if (part.type === "reset") text = part.text;
      if (part.type === "start" || part.type === "finish") await exchange?.begin();
      if (part.type === "finish" || part.type === "error" || part.type === "aborted") await onEnd(part, text);
      yield part;
    }
  }

  /** What was paid for is not lost because a row is locked or the database is away for a while. */
  async function keepTrying(what: string, work: () => Promise<void>, given = stopping.signal): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, given, AbortSignal.timeout(STORE_MS_MAX)]);
    await retryTemporary(work, signal).catch((error) => log.error({ err: error }, `completion could not be ${what}`));
  }

  const hasStoringRoom = (userId: string): boolean =>
    storing.size < STORING_MAX && [...storing].filter((entry) => entry.userId === userId).length < STORING_PER_USER_MAX;

  function count(part: LastPart, startedAtMs: number): void {
    const model = part.type === "finish" ? part.model : (part.models.at(-1) ?? "none");
    const outcome = { finish: "complete", error: "failed", aborted: "cancelled" }[part.type];
    metrics.generations.inc({ model, outcome });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  return {
    /**
     * For every user; a conversation in the request takes a member who may write.
     * @throws Problem `unknown_model`, `not_found`, `forbidden`, `rate_limited`, `budget_exceeded`, `draining`,
     * `unavailable`.
     */
    async start(caller: Caller, request: CompletionRequest): Promise<RunningCompletion> {
      checkRoom(request.model);
      const id = createId();
      const release = await holdAnswer(caller.user.id);
      const { exchange, reservation } = await prepare(caller, id, request).catch((error) => {
        release();
        throw error;
      });
      const { promise: done, resolve } = Promise.withResolvers<void>();
      const entry: Running = { userId: caller.user.id, abort: new AbortController(), done };
      const giveUp = new AbortController();
      const startedAtMs = performance.now();
      let stored: Promise<unknown> | undefined;

      /** In the background, since the answer is there: that it cannot be stored yet is no reason to keep it back. */
      function store(used: TokensAndCost, end?: () => Promise<void>): void {
        stored = Promise.all([
          keepTrying("charged", () => budgets.settle({ id: reservation.id }, caller.user.id, used)),
          end && keepTrying("stored", end, giveUp.signal),
        ]);
      }
      async function* keep(): Parts {
        try {
          const { model, messages, options } = request;
          const { outputTokensMax } = reservation;
          const asked = { model, messages, options, outputTokensMax, signal: entry.abort.signal };
          yield* follow(asked, exchange, async (part, text) => {
            count(part, startedAtMs);
            store(part, exchange ? () => exchange.end(part, text) : undefined);
            await Promise.race([stored, Bun.sleep(STORE_WAIT_MS)]);
          });
        } finally {
          if (!stored) store({ usage: null, costUsd: null });
          release();
          running.delete(entry);
          ended.add(entry);
          // If a conversation is locked for long, the texts that wait for it are bounded.
          if (exchange && hasStoringRoom(entry.userId)) storing.add(entry);
          else giveUp.abort();
          void stored?.then(() => {
            ended.delete(entry);
            storing.delete(entry);
            resolve();
          });
        }
      }
      running.add(entry);
      return {
        id: `chatcmpl-${id}`,
        created: Math.floor(Date.now() / 1000),
        parts: keep(),
        leave: () => {
          if (exchange === null) entry.abort.abort();
        },
      };
    },

    listModels: (): OpenAiModel[] => chain.models().map(mapToModel),

    /** @throws Problem `unknown_model`. */
    getModel(id: string): OpenAiModel {
      const model = chain.models().find((candidate) => candidate.id === id);
      if (!model) throw createUnknownModel(id);
      return mapToModel(model);
    },

    /**
     * Waits for the answers in progress and until they are stored; shortly before `deadlineMs` (since 1970) those that are
     * left are cut off.
     */
    async drain(deadlineMs: number): Promise<void> {
      const all = () => Promise.all([...running, ...ended].map(({ done }) => done));
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_SHARE)]);
      for (const { abort } of running) abort.abort();
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now() - LAST_STORE_MS))]);
      stopping.abort();
      await all();
    },
  };
}

export type CompletionService = ReturnType<typeof createCompletionService>;

/** When a model was made is not known here, and OpenAI's clients expect a number. */
const CREATED_UNKNOWN = 0;

const mapToModel = ({ id, provider }: { id: string; provider: string }): OpenAiModel => ({
  id,
  object: "model",
  created: CREATED_UNKNOWN,
  owned_by: provider,
});
