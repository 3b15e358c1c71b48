import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { EventLog, EventTransaction } from "../../events/log.ts";
import type { Slice } from "../../events/slice.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createUnknownModel, Problem } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import { type Message, type MessageRow, mapRowToMessage } from "../../protocol/message.ts";
import type { BudgetService } from "../budgets/service.ts";
import { appendMessage } from "./append-message.ts";
import type { Feedback, GiveFeedback, SendMessage, SentMessage } from "./model.ts";
import type { MessageKey, OtherMessage } from "./queries.ts";
import * as queries from "./queries.ts";
import type { Lease } from "./send-queries.ts";
import { createSender, type NewAnswer } from "./sender.ts";

export { appendMessage } from "./append-message.ts";
export type { MessageKey } from "./queries.ts";
export { collectEvents, createRecovery, RECOVERY_EVENTS_MAX, type Recovery, type StartPosition } from "./recovery.ts";
export type { Lease } from "./send-queries.ts";
export type { NewAnswer } from "./sender.ts";
export { createStreams, type Streams } from "./streams.ts";

/** The place of a message among those that are sent one after the other, while each is checked for itself. */
export type SendTurn = {
  /** When the message before it has its place; absent: it has. */
  before: Promise<void> | undefined;
  /** Called when this one has. */
  onSubmit(): void;
};

type Dependencies = {
  database: Database;
  events: EventLog;
  metrics: Metrics;
  log: Log;
  /** The model that answers where neither the message nor the conversation names one. */
  defaultModel: string;
  budgets: BudgetService;
  limits: Pick<Limits, "storeAnswered" | "checkAnswered" | "countAnswer">;
  /** The right to write up to so many answers on this instance; null when there is no room for them. */
  takeLease(answers: number): Lease | null;
  hasModel(model: string): boolean;
  /** Whether answers may begin here; not while this instance shuts down. */
  canAnswer(): boolean;
  /** Called after the commit of an empty answer: somebody has to write it. */
  onAnswer(answer: NewAnswer): void;
  /** The text so far of an answer that is being written here; the stored one lags behind. */
  findLiveText(messageId: string): string | null;
};

/** Rules of messages: send, read, edit, delete, rate. Access is membership, checked in the look-up itself. */
export function createMessageService(deps: Dependencies) {
  const { database, events, metrics, limits, hasModel, canAnswer, findLiveText } = deps;
  const sender = createSender(deps);

  function mapRow(row: MessageRow): Message {
    const message = mapRowToMessage(row);
    if (message.status !== "streaming") return message;
    return { ...message, content: findLiveText(message.id) ?? message.content };
  }

  /**
   * Changes a message in one transaction, with its event.
   * @param check looks at the message under the lock; false: there is nothing to do. It throws when it may not be.
   * @returns the message, changed or not.
   */
  async function change(
    caller: Caller,
    key: MessageKey,
    type: "message.updated" | "message.deleted",
    check: (row: queries.VisibleRow) => boolean,
    work: (sql: Sql, row: queries.VisibleRow, at: Date) => Promise<void>,
  ): Promise<Message> {
    // Who may not see it waits for nothing.
    const seen = await getRow(caller, key);
    return events.write(seen.conversation_id, async ({ sql, append }) => {
      const row = requireRow(
        await queries.lockMessage(sql, { id: seen.id, conversationId: seen.conversation_id }, caller.user.id),
        "message",
      );
      if (!check(row)) return mapRowToMessage(row);
      if (row.deleted_at || row.status === "streaming")
        throw new Problem("conflict", "The message is deleted, or still being written.");
      const { conversation_id: conversationId, id } = row;
      return append(type, conversationId, async ({ at }) => {
        await work(sql, row, at);
        return mapRowToMessage(requireRow(await queries.findMessageById(sql, conversationId, id), "message"));
      });
    });
  }

  async function getRow(caller: Caller, key: MessageKey): Promise<queries.VisibleRow> {
    return requireRow(await queries.findMessage(database, key, caller.user.id), "message");
  }

  return {
    /**
     * For members who may write. Fulfils when the message is committed; the same `client_message_id` gives the same
     * message for ever.
     * @param turn absent: it takes its place when it has been checked.
     * @throws Problem `not_found`, `forbidden` (viewers), `invalid` (parent), `unknown_model`, `rate_limited`,
     * `budget_exceeded`, `draining`, `unavailable`.
     */
    async send(
      caller: Caller,
      conversationId: string,
      input: SendMessage,
      turn?: SendTurn,
    ): Promise<SentMessage & { duplicate: boolean }> {
      if (input.model && !hasModel(input.model)) throw createUnknownModel(input.model);
      if (input.reply !== false && !canAnswer())
        throw new Problem("draining", "This instance is shutting down; send the message again.", {
          retryAfterMs: 1_000,
        });
      const parentId = input.parent_id?.toLowerCase();
      const submit = () => {
        const sent = sender.send(caller, conversationId, parentId ? { ...input, parent_id: parentId } : input);
        turn?.onSubmit();
        return sent;
      };
      const store = () => (turn?.before ? turn.before.then(submit) : submit());
      const isAnswered = input.reply === true;
      // Where it is left to the conversation, only the commit knows whether a model answers.
      const checked = input.reply === false || isAnswered ? undefined : limits.checkAnswered(caller);
      if (checked) await checked;
      const outcome = await (isAnswered ? limits.storeAnswered(caller, store) : store());
      if (!("duplicateOf" in outcome)) {
        if (outcome.reply && !isAnswered) limits.countAnswer(caller);
        return { ...outcome, duplicate: false };
      }
      const message = requireRow(
        await queries.findMessageById(database, conversationId, outcome.duplicateOf),
        "message",
      );
      const reply = await queries.findAnswer(database, conversationId, message.id);
      return { message: mapRow(message), reply: reply ? mapRow(reply) : null, duplicate: true };
    },

    /**
     * Stores an answer that a model has written to the end elsewhere; after a failure it may be called again. Call it for
     * members who may write.
     * @throws Problem `not_found` when the conversation is gone.
     */
    async addAnswer(answer: Omit<OtherMessage, "role">): Promise<Message> {
      const store = (transaction: EventTransaction) => appendMessage(transaction, { ...answer, role: "assistant" });
      const message = await events.write(answer.conversationId, store);
      metrics.messages.inc({ role: "assistant" });
      return message;
    },

    /** For members; with a conversation, only a message of it is found. @throws Problem `not_found`. */
    async get(caller: Caller, key: MessageKey): Promise<Message> {
      return mapRow(await getRow(caller, key));
    },

    /** For members who may write. @throws Problem `not_found`, `forbidden` (viewers). */
    async getWritable(caller: Caller, key: MessageKey): Promise<Message> {
      const row = await getRow(caller, key);
      if (row.member_role === "viewer")
        throw new Problem("forbidden", "Viewers of a conversation may not write in it.");
      return mapRow(row);
    },

    /** Ends the connections that waited for locks. */
    close: sender.close,

    /** In the order of reading (backward, unless only `afterSeq` is given), with one more that tells there is more. */
    async list(
      conversationId: string,
      range: { beforeSeq: number | undefined; afterSeq: number | undefined },
      limit: number,
    ): Promise<Slice<Message>> {
      const { rows, fitting } = await queries.listMessages(database, conversationId, range, limit + 1);
      return { rows: rows.map(mapRow), fitting };
    },

    /** For its author. @throws Problem `not_found`, `forbidden`, `conflict`. */
    edit(caller: Caller, key: MessageKey, content: string): Promise<Message> {
      const check = ({ author_id, member_role }: queries.VisibleRow) => {
        if (author_id !== caller.user.id || member_role === "viewer")
          throw new Problem("forbidden", "Only its author may edit a message.");
        return true;
      };
      return change(caller, key, "message.updated", check, (sql, row, at) =>
        queries.updateContent(sql, row, content, at),
      );
    },

    /**
     * For its author and the conversation's owners; a tombstone stays, which is deleted already.
     * @throws Problem `not_found`, `forbidden`, `conflict`.
     */
    async remove(caller: Caller, key: MessageKey): Promise<void> {
      const check = ({ author_id, member_role, deleted_at }: queries.VisibleRow) => {
        if (member_role !== "owner" && (author_id !== caller.user.id || member_role === "viewer"))
          throw new Problem("forbidden", "Only its author or an owner of the conversation may delete a message.");
        return deleted_at === null;
      };
      await change(caller, key, "message.deleted", check, (sql, row, at) => queries.deleteContent(sql, row, at));
    },

    /** For members, on answers of a model. @throws Problem `not_found`, `conflict`. */
    async giveFeedback(caller: Caller, key: MessageKey, { rating, comment }: GiveFeedback): Promise<Feedback> {
      const row = await getRow(caller, key);
      if (row.role !== "assistant" || row.deleted_at)
        throw new Problem("conflict", "Only answers of a model can be rated.");
      const upsert = (sql: Sql) => queries.upsertFeedback(sql, row, caller.user.id, rating, comment ?? null);
      return withTransaction(database, upsert, `message:${row.id}`);
    },
  };
}

export type MessageService = ReturnType<typeof createMessageService>;
