import { type Caller, keyIdOf } from "../../access/caller.ts";
import type { Chain } from "../../ai/chain.ts";
import type { Changes } from "../../db/changes.ts";
import { requireRow } from "../../db/client.ts";
import type { EventTransaction } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import { createUnknownModel, Problem } from "../../lib/problem.ts";
import { type Message, mapRowToMessage } from "../../protocol/message.ts";
import type { SentMessage } from "../messages/model.ts";
import { findMessageById, type Lease, type MessageService, type NewAnswer } from "../messages/service.ts";
import type { Model } from "../models/model.ts";
import { type FoundContext, PATH_ROWS, SUMMARIES_MAX } from "./context-queries.ts";
import * as queries from "./queries.ts";
import { createRunner, LEASE_MS, type RunnerDependencies } from "./runner.ts";

/** Answers that one instance writes at the same time; more wait for a free place, here or elsewhere. */
export const RUNNING_MAX = 500;
/**
 * Contexts are read with the commit only where that takes no time to speak of: in small batches, of short conversations.
 * Others read theirs apart, so that no send waits for the long history of another. A batch reads few bytes of them: a
 * result that an instance does not take, because it is frozen, keeps the locks of the batch until the connection is cut off.
 */
const CONTEXT_BATCH_MAX = 8;
const contextLimits = { rows: PATH_ROWS, summaries: SUMMARIES_MAX, seqMax: 40, bytesMax: 64 * 1024 };
/** How long a cancel waits for the end to be stored, so that its answer already shows it. */
const CANCEL_WAIT_MS = 2_000;

type Dependencies = RunnerDependencies & {
  changes: Changes;
  chain: Chain;
  messages: MessageService;
  lifecycle: Lifecycle;
  /** Stores an answer, if the user may have one more in progress. @throws Problem `rate_limited`. */
  storeAnswer<T>(userId: string, store: () => Promise<T>): Promise<T>;
};

/** Rules of generations: who may stop one or ask for another answer, and who writes the answers. */
export function createGenerationService(deps: Dependencies) {
  const { database, changes, events, bus, chain, messages, lifecycle, budgets, log, storeAnswer } = deps;
  const runner = createRunner(deps);
  /** Answers that may begin with the commits in flight. */
  let leased = 0;
  const hasRoom = (answers: number): boolean => runner.count() + leased + answers <= RUNNING_MAX;

  /**
   * Begins an answer that was committed. Without a free place it stays pending, and a sweep takes it up. So does one that is
   * committed while this instance shuts down: another instance takes it up.
   */
  function start({ isClaimed, context, ...answer }: NewAnswer): void {
    const { generationId, messageId } = answer;
    if (isClaimed) {
      runner.run(mapToClaimed(answer), (context as FoundContext | null) ?? undefined);
      return;
    }
    if (lifecycle.phase === "draining" || !hasRoom(1)) return;
    runner
      .start({ conversationId: answer.conversationId, id: generationId })
      .catch((error) => log.warn({ err: error, message_id: messageId }, "generation could not begin"));
  }

  return {
    start,

    /**
     * For the sender of messages: a lease on the answers of a whole batch, where there is room for all of them, and they
     * may begin here.
     */
    takeLease(answers: number): Lease | null {
      if (lifecycle.phase === "draining" || !hasRoom(answers)) return null;
      leased += answers;
      const context = { ...contextLimits, bytesMax: Math.floor(contextLimits.bytesMax / answers) };
      return {
        owner: deps.instanceId,
        leaseMs: LEASE_MS,
        context: answers <= CONTEXT_BATCH_MAX ? context : null,
        end() {
          leased -= answers;
        },
      };
    },

    /** The answers that are being written here: what a new listener needs to go on with the next delta. */
    listSnapshots(conversationId: string) {
      return runner
        .listLive(conversationId)
        .filter(({ attempt }) => attempt > 0)
        .map((live) => ({
          messageId: live.messageId,
          seq: live.seq,
          attempt: live.attempt,
          text: live.text,
          frame: JSON.stringify(live.snapshot()),
        }));
    },

    /** The text so far of an answer that is being written here. */
    findLiveText: (messageId: string): string | null => runner.findLive(messageId)?.text ?? null,

    /**
     * For members who may write: stops an answer. One that has ended stays as it is.
     * @throws Problem `not_found`, `forbidden`.
     */
    async cancel(caller: Caller, conversationId: string | null, messageId: string): Promise<Message> {
      const { id, seq, conversation_id } = await messages.getWritable(caller, conversationId, messageId);
      const generation = await changes.run(conversation_id, (sql) =>
        queries.requestCancel(sql, { conversation_id, seq }),
      );
      if (generation !== undefined) {
        const ended = runner.untilEnded(id);
        bus.publish("generations", () => [{ type: "generation.cancelled", message_id: id }]);
        await Promise.race([ended, Bun.sleep(CANCEL_WAIT_MS)]);
      }
      return messages.get(caller, conversation_id, id);
    },

    /**
     * For members who may write: another answer to the same message. The one before stays.
     * @param messageId an answer, or the message that is to be answered.
     * @throws Problem `not_found`, `forbidden`, `unknown_model`, `conflict`, `rate_limited`, `budget_exceeded`,
     * `draining`.
     */
    async regenerate(
      caller: Caller,
      knownId: string | null,
      messageId: string,
      model: string | undefined,
    ): Promise<SentMessage & { reply: Message }> {
      if (model !== undefined && !chain.has(model)) throw createUnknownModel(model);
      if (lifecycle.phase === "draining")
        throw new Problem("draining", "This instance is shutting down; ask again.", { retryAfterMs: 1_000 });
      const chosen = await messages.getWritable(caller, knownId, messageId);
      const conversationId = chosen.conversation_id;
      const question = chosen.role === "assistant" && chosen.parent_id ? chosen.parent_id : chosen.id;
      if (chosen.status === "streaming")
        throw new Problem("conflict", "The answer is still being written; cancel it first.");
      const message = question === chosen.id ? chosen : await messages.get(caller, conversationId, question);
      if (message.role !== "user" || message.deleted_at)
        throw new Problem("conflict", "The message that was answered is no longer there.");

      const payer = { userId: caller.user.id, keyId: keyIdOf(caller) };
      const insert = ({ sql, append }: EventTransaction) =>
        append("message.created", conversationId, async (position) => {
          const row = {
            generationId: createId(),
            messageId: createId(),
            conversationId,
            parentId: message.id,
            model: model ?? (await queries.findModel(sql, conversationId)) ?? chain.defaultModel,
            requestedBy: caller.user.id,
          };
          // The question is part of the conversation, which is counted already.
          await budgets.reserveAnswer(sql, { ...row, ...payer, contentBytes: 0 });
          await queries.insertAnswer(sql, row, position);
          answer = { ...row, seq: position.seq, isClaimed: false, context: null };
          return mapRowToMessage(requireRow(await findMessageById(sql, conversationId, row.messageId), "message"));
        });
      let answer: NewAnswer | undefined;
      const reply = await storeAnswer(caller.user.id, () => events.write(conversationId, insert));
      if (answer) start(answer);
      return { message, reply };
    },

    /** The configured models in fallback order, with what is known of their health. */
    listModels(): Model[] {
      return chain.models().map((state) => ({
        id: state.id,
        provider: state.provider,
        state: state.state,
        until: state.state === "cooling_down" ? state.until.toISOString() : null,
        is_default: state.id === chain.defaultModel,
      }));
    },

    /** Answers of a user that are stored and have not ended, on all instances. */
    countUnfinished: (userId: string): Promise<number> => queries.countUnfinished(database, userId),

    count: runner.count,
    storePieces: runner.storePieces,
    renewLeases: runner.renewLeases,
    drain: runner.drain,
    close: runner.close,

    /** Takes over what dead instances left, as far as there is room. */
    takeOrphans(): Promise<void> {
      const room = lifecycle.phase === "ready" ? RUNNING_MAX - runner.count() : 0;
      return room > 0 ? runner.takeOrphans(room) : Promise.resolve();
    },
  };
}

export type GenerationService = ReturnType<typeof createGenerationService>;

/** A generation that was stored with the lease of this instance, as a claim would have returned it. */
function mapToClaimed(answer: Omit<NewAnswer, "isClaimed" | "context">): queries.ClaimedGeneration {
  return {
    id: answer.generationId,
    message_id: answer.messageId,
    conversation_id: answer.conversationId,
    model: answer.model,
    requested_by: answer.requestedBy,
    fence: 1,
    attempt: 0,
    is_cancelled: false,
    seq: answer.seq,
    parent_id: answer.parentId,
    content: "",
  };
}
