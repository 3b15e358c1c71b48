import type { Chain } from "../../ai/chain.ts";
import { requireRow, withTransaction } from "../../db/client.ts";
import type { Caller } from "../../http/authenticate.ts";
import { createId } from "../../lib/id.ts";
import type { Lifecycle } from "../../lib/lifecycle.ts";
import { Problem } from "../../lib/problem.ts";
import { createEvent } from "../conversations/service.ts";
import type { Message, SentMessage } from "../messages/model.ts";
import { findMessageById, type MessageService, mapToMessage, type NewAnswer } from "../messages/service.ts";
import type { Model } from "./model.ts";
import * as queries from "./queries.ts";
import { createRunner, type RunnerDependencies } from "./runner.ts";

/** Answers that one instance writes at the same time; more wait for a free place, here or elsewhere. */
export const RUNNING_MAX = 500;
/** How long a cancel waits for the end to be stored, so that its answer already shows it. */
const CANCEL_WAIT_MS = 2_000;

type Dependencies = RunnerDependencies & {
  chain: Chain;
  messages: MessageService;
  lifecycle: Lifecycle;
};

/** Rules of generations: who may stop one or ask for another answer, and who writes the answers. */
export function createGenerationService(deps: Dependencies) {
  const { database, hub, chain, messages, lifecycle, log } = deps;
  const runner = createRunner(deps);

  /** Begins an answer that was committed; without a free place it stays pending, and a sweep takes it up. */
  function start({ generationId, messageId }: NewAnswer): void {
    if (runner.count() >= RUNNING_MAX) return;
    runner
      .start(generationId)
      .catch((error) => log.warn({ err: error, message_id: messageId }, "generation could not begin"));
  }

  function requireWriter(role: string): void {
    if (role === "viewer") throw new Problem("forbidden", "Viewers of a conversation may not write in it.");
  }

  return {
    start,

    /** The answers that are being written here: what a new listener needs to go on with the next delta. */
    listSnapshots(conversationId: string) {
      return runner
        .listLive(conversationId)
        .filter(({ attempt }) => attempt > 0)
        .map((live) => ({
          messageId: live.messageId,
          seq: live.seq,
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
    async cancel(caller: Caller, messageId: string): Promise<Message> {
      const role = await messages.getRole(caller, messageId);
      requireWriter(role);
      if ((await queries.requestCancel(database, messageId)) !== undefined)
        await Promise.race([runner.cancel(messageId.toLowerCase()), Bun.sleep(CANCEL_WAIT_MS)]);
      return messages.get(caller, messageId);
    },

    /**
     * For members who may write: another answer to the same message. The one before stays.
     * @param messageId an answer, or the message that is to be answered.
     * @throws Problem `not_found`, `forbidden`, `unknown_model`, `conflict`, `draining`.
     */
    async regenerate(caller: Caller, messageId: string, model: string | undefined): Promise<SentMessage> {
      if (model !== undefined && !chain.has(model))
        throw new Problem("unknown_model", `The model ${model} is not configured here.`);
      if (lifecycle.phase === "draining")
        throw new Problem("draining", "This instance is shutting down; ask again.", { retryAfterMs: 1_000 });
      requireWriter(await messages.getRole(caller, messageId));
      const chosen = await messages.get(caller, messageId);
      const question = chosen.role === "assistant" && chosen.parent_id ? chosen.parent_id : chosen.id;
      if (chosen.status === "streaming")
        throw new Problem("conflict", "The answer is still being written; cancel it first.");
      const message = question === chosen.id ? chosen : await messages.get(caller, question);
      if (message.role !== "user" || message.deleted_at)
        throw new Problem("conflict", "The message that was answered is no longer there.");

      const answer = { generationId: createId(), messageId: createId(), conversationId: message.conversation_id };
      const reply = await withTransaction(database, async (sql) => {
        const taken = requireRow(await queries.takeSeq(sql, message.conversation_id), "conversation");
        await queries.insertAnswer(sql, {
          ...answer,
          seq: taken.seq,
          parentId: message.id,
          model: model ?? taken.model ?? chain.defaultModel,
          requestedBy: caller.user.id,
        });
        return mapToMessage(requireRow(await findMessageById(sql, answer.messageId), "message"));
      });
      const stored = { seq: reply.seq, at: new Date(reply.created_at) };
      hub.publish(createEvent("message.created", reply.conversation_id, stored, reply));
      start(answer);
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

    count: runner.count,
    checkpoint: runner.checkpoint,
    renewLeases: runner.renewLeases,
    drain: runner.drain,

    /** Takes over what dead instances left, as far as there is room. */
    takeOrphans(): Promise<void> {
      const room = lifecycle.phase === "ready" ? RUNNING_MAX - runner.count() : 0;
      return room > 0 ? runner.takeOrphans(room) : Promise.resolve();
    },
  };
}

export type GenerationService = ReturnType<typeof createGenerationService>;
