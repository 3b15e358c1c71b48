import type { Chain } from "../../ai/chain.ts";
import type { ChainPart } from "../../ai/chain-part.ts";
import { type Database, getReservedPool, type Sql, withTransaction } from "../../db/client.ts";
import { isTemporary, retryTemporary } from "../../db/retry.ts";
import type { EventLog } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { ToolService } from "../tools/service.ts";
import { createBeat } from "./beat.ts";
import type { Context, Contexts } from "./context.ts";
import type { FoundContext } from "./context-queries.ts";
import { createFinisher } from "./finisher.ts";
import type { FollowUps } from "./follow-ups.ts";
import { findCoalesceMs, LiveAnswer, type LivePiece } from "./live-answer.ts";
import { createPieces, keyOf } from "./pieces.ts";
import * as queries from "./queries.ts";
import { createToolRuns } from "./tool-runs.ts";

/** An owner that has not renewed its lease for so long counts as dead. */
export const LEASE_MS = 8_000;
/** Leases are looked at every second, but written every other time only. */
const leaseTimes = { leaseMs: LEASE_MS, enoughMs: LEASE_MS - 1_500 };
/** A final state is tried to be stored for so long; after that the lease runs out and another run ends it. */
const FINISH_MS_MAX = 10 * 60_000;
/** How long a released answer waits for its end, if that is just being stored. */
const LAST_FINISH_MS = 300;

/** Of the time that a shutdown leaves; the rest is for storing what is unfinished then. */
const DRAIN_SHARE = 0.8;

type Running = {
  generation: queries.ClaimedGeneration;
  /** What it has used is charged once under this id, unless its end is stored. */
  chargeId: string;
  live: LiveAnswer;
  /** What the model is shown, once it is put together. */
  context: Context | null;
  abort: AbortController;
  /** Why it is to end: by a user's stop, or released, which leaves the rest to another instance. */
  stop: "cancel" | "release" | null;
  released: AbortController;
  done: Promise<void>;
};

export type RunnerDependencies = {
  database: Database;
  events: EventLog;
  bus: Bus;
  chain: Chain;
  budgets: BudgetService;
  contexts: Contexts;
  followUps: FollowUps;
  tools: ToolService;
  metrics: Metrics;
  log: Log;
  /** This process, as the owner of leases. */
  instanceId: string;
};

/** Runs generations as tasks of their own: whoever watches may go and come, the answer is written all the same. */
export function createRunner(deps: RunnerDependencies) {
  const { database, events, bus, chain, budgets, contexts, followUps, metrics, log, instanceId } = deps;
  const pieces = createPieces({ database });
  const toolRuns = createToolRuns({ ...deps, pieces });
  const finisher = createFinisher({ database });
  const running = new Map<string, Running>();
  /** Generations that are being claimed. */
  let claiming = 0;
  let isDrained = false;
  const beat = createBeat(() => findCoalesceMs(running.size));
  const byMessage = new Map<string, Running>();
  const byConversation = new Map<string, Set<Running>>();

  function register(entry: Running): void {
    const { generation } = entry;
    running.set(generation.id, entry);
    byMessage.set(generation.message_id, entry);
    const siblings = byConversation.get(generation.conversation_id) ?? new Set();
    byConversation.set(generation.conversation_id, siblings.add(entry));
  }

  function unregister(entry: Running): void {
    const { generation } = entry;
    if (running.get(generation.id) !== entry) return;
    running.delete(generation.id);
    byMessage.delete(generation.message_id);
    const siblings = byConversation.get(generation.conversation_id);
    siblings?.delete(entry);
    if (siblings?.size === 0) byConversation.delete(generation.conversation_id);
  }

  /**
   * Runs a claimed generation to its end. The claim is the right to write; nothing is thrown.
   * @param found what the answer is made from, where that was read with the commit of the question.
   */
  function run(generation: queries.ClaimedGeneration, found?: FoundContext): Promise<void> {
    // A lease that ran out while the database was away: the run before it may not go on beside this one.
    const before = running.get(generation.id);
    if (before) stop(before, "release");
    const live = new LiveAnswer({
      conversationId: generation.conversation_id,
      messageId: generation.message_id,
      seq: generation.seq,
      attempt: generation.attempt,
      text: generation.content,
      bus,
      beat,
    });
    const abort = new AbortController();
    const released = new AbortController();
    const entry: Running = {
      generation,
      chargeId: createId(),
      live,
      context: null,
      abort,
      stop: null,
      released,
      done: Promise.resolve(),
    };
    register(entry);
    if (generation.is_cancelled) stop(entry, "cancel");
    // Its claim was on its way.
    if (isDrained) stop(entry, "release");
    entry.done = write(entry, found)
      .catch((error) => log.error({ err: error, message_id: generation.message_id }, "generation failed"))
      .finally(() => unregister(entry));
    return entry.done;
  }

  async function write(entry: Running, found: FoundContext | undefined): Promise<void> {
    const startedAtMs = performance.now();
    const final = await ask(entry, found);
    entry.live.flush();
    if (entry.stop === "release" || !(await finish(entry, final))) {
      await release(entry).catch((error) => log.warn({ err: error }, "an answer could not be released"));
      return charge(entry, final);
    }
    const model = final.model ?? "none";
    metrics.generations.inc({ model, outcome: final.status });
    metrics.generationDuration.observe({ model }, (performance.now() - startedAtMs) / 1000);
  }

  /** Follows the chain, and gives what it ended with. */
  async function ask(entry: Running, found: FoundContext | undefined): Promise<queries.FinalState> {
    const { generation, live, abort } = entry;
    const { conversation_id: conversationId, parent_id: fromId, requested_by: userId } = generation;
    try {
      const context = await contexts.build({ conversationId, fromId, model: generation.model, userId, found });
      entry.context = context;
      // An owner that died before it stored its first piece may have shown text all the same: its readers need a reset.
      const attempt = Math.max(generation.attempt, generation.fence - 1);
      const resume = attempt > 0 ? { text: live.text, attempt } : null;
      const { model, messages } = context;
      const { signal } = abort;
      const request = { model, messages, isFitted: true, outputTokensMax: budgets.answerTokensMax, signal };
      const onLost = () => stop(entry, "release");
      const parts = context.hasTools
        ? await toolRuns.open({ generation, live, onLost, released: entry.released.signal }, attempt, request)
        : chain.run({ ...request, resume, onText: (text) => live.append(text) });
      for await (const part of parts) {
        if (part.type === "text") live.append(part.text);
        else if (part.type === "start") live.begin(part.attempt);
        else if (part.type === "reset") {
          const piece = { attempt: part.attempt, n: 1, text: part.text };
          const isStored = await storeAttempt(generation, piece);
          live.reset(part.text, part.attempt);
          if (isStored) live.confirm(piece);
        } else return { ...mapToFinalState(part, live), sources: context.sources };
      }
    } catch (error) {
      log.error({ err: error, message_id: generation.message_id }, "generation interrupted");
      // Nothing is wrong with the answer itself: whoever reaches the database first goes on with it.
      if (isTemporary(error)) stop(entry, "release");
    }
    live.flush();
    const error = { code: "internal", detail: "The answer could not be written." };
    return { ...emptyFinal, content: live.text, status: "failed", finishReason: "error", error };
  }

  /** Before readers see the new attempt: a successor must go on with a higher one, should this instance die now. */
  async function storeAttempt(generation: queries.ClaimedGeneration, piece: LivePiece): Promise<boolean> {
    const store = (sql: Sql) => queries.storePieces(sql, [{ ...keyOf(generation), ...piece }]);
    try {
      return (await withTransaction(database, store)).size > 0;
    } catch (error) {
      if (!isTemporary(error)) throw error;
      log.warn({ err: error }, "the new attempt of an answer could not be stored");
      return false;
    }
  }

  /**
   * Stores the final state with its event and its cost in one transaction, pushes it, and lets go of the lease. While that
   * fails with what is temporary, such as a locked conversation, it is tried again, and the lease is renewed.
   * @returns false when the run was released before that.
   */
  async function finish(entry: Running, final: queries.FinalState): Promise<boolean> {
    let ending = Promise.resolve();
    const end = () => {
      ending = storeEnd(entry, final);
      return ending;
    };
    try {
      await retryTemporary(end, AbortSignal.any([entry.released.signal, AbortSignal.timeout(FINISH_MS_MAX)]));
      return true;
    } catch (error) {
      if (entry.stop !== "release") throw error;
      // Once more if the last try has failed: if its commit got no response, the lease is gone because the end is stored.
      const isStored = ending.catch(end).then(
        () => true,
        () => false,
      );
      return Promise.race([isStored, Bun.sleep(LAST_FINISH_MS).then(() => false)]);
    }
  }

  async function storeEnd(entry: Running, final: queries.FinalState): Promise<void> {
    const { generation, live, context } = entry;
    const { conversation_id: conversationId, message_id: messageId, requested_by: userId } = generation;
    const stored = await finisher.finish({ generation, attempt: live.attempt, final });
    if (stored.outcome !== "finished") {
      // Nobody else will: with the conversation, the generation is gone, and only its reservation is left.
      if (stored.outcome === "gone")
        return budgets.settle({ id: entry.chargeId, reservationId: generation.id }, userId, final);
      log.warn({ message_id: messageId }, "generation was taken over; its end is not stored here");
      return charge(entry, final);
    }
    metrics.messages.inc({ role: "assistant" });
    // First, so that nobody who joins now is told of an answer in progress after its end.
    unregister(entry);
    events.publish([stored.event]);
    if (context && final.status === "complete")
      followUps.begin({ conversationId, messageId, text: final.content, context, askerId: userId });
  }

  /**
   * The successor settles; what this run has used comes on top. Its end may still wait for its commit, or be committed
   * without a response: so it is released here again, which refuses the end or finds it stored, and charged.
   */
  function charge({ generation, chargeId }: Running, final: queries.FinalState): Promise<void> {
    const isDue = (sql: Sql) => queries.releaseGeneration(sql, instanceId, keyOf(generation));
    return budgets.charge(generation.requested_by, final, { id: chargeId, isDue });
  }

  async function release(entry: Running): Promise<void> {
    await pieces.store(entry, (write) =>
      withTransaction(database, async (sql) => {
        await write(sql);
        await queries.releaseGeneration(sql, instanceId, keyOf(entry.generation));
      }),
    );
  }

  function stop(entry: Running, reason: "cancel" | "release"): void {
    // Also after a user's stop: that is stored, and whoever goes on obeys it.
    if (reason === "release") entry.stop = reason;
    else entry.stop ??= reason;
    if (reason === "release") entry.released.abort();
    entry.abort.abort();
  }

  async function renewLeases(): Promise<void> {
    const entries = [...running.values()];
    if (entries.length === 0) return;
    const held = entries.map(({ generation }) => keyOf(generation));
    const kept = new Map(
      (await queries.renewGenerations(getReservedPool(database), instanceId, held, leaseTimes)).map((row) => [
        row.id,
        row,
      ]),
    );
    for (const entry of entries) {
      const row = kept.get(entry.generation.id);
      // A lease that is gone belongs to another instance, or the message was deleted: nothing more is to be written.
      if (!row) stop(entry, "release");
      else if (row.is_cancelled) stop(entry, "cancel");
    }
  }

  // Without it, a stop takes effect when the leases are renewed.
  bus.subscribe("generations", {
    onMessage({ message_id }) {
      const entry = byMessage.get(message_id);
      if (entry) stop(entry, "cancel");
    },
    onGap: () => {},
  });

  return {
    run,
    /** With those that are about to begin. */
    count: (): number => running.size + claiming,

    /**
     * Claims a new generation and runs it, unless another instance was faster. One claim after the other: those of a whole
     * batch would stand in front of everybody's changes.
     */
    async start(key: queries.GenerationKey): Promise<void> {
      const claim = (sql: Sql) => queries.claimGeneration(sql, key, instanceId, LEASE_MS);
      claiming += 1;
      const generation = await withTransaction(database, claim, "claims").finally(() => {
        claiming -= 1;
      });
      if (generation) await run(generation);
    },

    /** When the end of an answer is stored; null when it is not written here. */
    untilEnded: (messageId: string): Promise<void> | null => byMessage.get(messageId)?.done ?? null,

    /** Text and number of the answers that are being written here. */
    listLive: (conversationId: string): LiveAnswer[] =>
      [...(byConversation.get(conversationId) ?? [])].map(({ live }) => live),

    findLive: (messageId: string): LiveAnswer | null => byMessage.get(messageId)?.live ?? null,

    /** Stores what is new of all answers that run here: where a successor would go on. */
    storePieces: (): Promise<void> => pieces.append(running.values()),

    /** Renews the leases, and obeys stops that are stored. */
    renewLeases,

    /** Takes over what dead instances left behind. */
    async takeOrphans(rowsMax: number): Promise<void> {
      for (const generation of await queries.claimOrphans(database, instanceId, LEASE_MS, rowsMax)) {
        log.info({ message_id: generation.message_id, attempt: generation.attempt }, "generation taken over");
        run(generation);
      }
    },

    /** Ends the connections that waited for locks. */
    close: finisher.close,

    /** Waits for the answers in progress; then, shortly before `deadlineMs` (since 1970), leaves them to a successor. */
    async drain(deadlineMs: number): Promise<void> {
      const all = () => Promise.all([...running.values()].map(({ done }) => done));
      await Promise.race([all(), Bun.sleep(Math.max(0, deadlineMs - Date.now()) * DRAIN_SHARE)]);
      isDrained = true;
      for (const entry of running.values()) stop(entry, "release");
      await all();
    },
  };
}

export type Runner = ReturnType<typeof createRunner>;

const emptyFinal = { model: null, models: [], usage: null, costUsd: null, error: null };

type LastPart = Extract<ChainPart, { type: "finish" | "error" | "aborted" }>;

function mapToFinalState(part: LastPart, live: LiveAnswer): queries.FinalState {
  live.flush();
  const { usage, costUsd } = part;
  const account = {
    content: live.text,
    usage,
    costUsd,
    model: part.models.at(-1) ?? null,
    models: part.models,
    error: null,
  };
  if (part.type === "finish") return { ...account, status: "complete", finishReason: part.reason, model: part.model };
  if (part.type === "aborted") return { ...account, status: "cancelled", finishReason: "cancelled" };
  return { ...account, status: "failed", finishReason: "error", error: { code: part.code, detail: part.detail } };
}
