import { type Database, requireRow, type Sql, withTransaction } from "../../db/client.ts";
import type { Caller } from "../../http/authenticate.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createUnknownModel, Problem } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import type { DurableEventType } from "../../realtime/frames.ts";
import type { Hub, MemberRole } from "../../realtime/hub.ts";
import type { BudgetService } from "../budgets/service.ts";
import { appendEvent, createEvent } from "../conversations/service.ts";
import type { Feedback, GiveFeedback, Message, SendMessage, SentMessage } from "./model.ts";
import * as queries from "./queries.ts";
import type { Lease } from "./send-queries.ts";
import { createSender, type NewAnswer } from "./sender.ts";

export { createEventLog, type EventLog, RECOVERY_EVENTS_MAX, type StartPosition } from "./events.ts";
export { createGroupCommit } from "./group-commit.ts";
export { findMessageById, insertMessage, mapToMessage } from "./queries.ts";
export type { NewAnswer } from "./sender.ts";
export { collectEvents, createStreams, type Streams } from "./streams.ts";

type Dependencies = {
  database: Database;
  hub: Hub;
  metrics: Metrics;
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
  const { database, hub, metrics, limits, hasModel, canAnswer, findLiveText } = deps;
  const sender = createSender(deps);

  function mapRow(row: queries.MessageRow): Message {
    const message = queries.mapToMessage(row);
    if (message.status !== "streaming") return message;
    return { ...message, content: findLiveText(message.id) ?? message.content };
  }

  /**
   * Changes a message in one transaction, with its event, and pushes it after the commit.
   * @param check looks at the message under the lock; false: there is nothing to do. It throws when it may not be.
   * @returns the message, changed or not.
   */
  async function change(
    caller: Caller,
    id: string,
    type: DurableEventType,
    check: (row: VisibleRow) => boolean,
    work: (sql: Sql) => Promise<void>,
  ): Promise<Message> {
    const { row, stored } = await withTransaction(database, async (sql) => {
      const before = requireRow(await queries.lockMessage(sql, id, caller.user.id), "message");
      if (!check(before)) return { row: before, stored: null };
      if (before.deleted_at || before.status === "streaming")
        throw new Problem("conflict", "The message is deleted, or still being written.");
      await work(sql);
      const stored = await appendEvent(sql, { conversationId: before.conversation_id, type, messageId: id });
      return { row: requireRow(await queries.findMessageById(sql, id), "message"), stored };
    });
    const message = queries.mapToMessage(row);
    if (stored) hub.publish(createEvent(type, message.conversation_id, stored, message));
    return message;
  }

  async function getRow(caller: Caller, id: string) {
    return requireRow(await queries.findMessage(database, id, caller.user.id), "message");
  }

  return {
    /**
     * For members who may write. Fulfils when the message is committed; the same `client_message_id` gives the same
     * message for ever.
     * @throws Problem `not_found`, `forbidden` (viewers), `invalid` (parent), `unknown_model`, `rate_limited`,
     * `budget_exceeded`, `draining`, `unavailable`.
     */
    async send(
      caller: Caller,
      conversationId: string,
      input: SendMessage,
    ): Promise<SentMessage & { duplicate: boolean }> {
      if (input.model && !hasModel(input.model)) throw createUnknownModel(input.model);
      if (input.reply !== false && !canAnswer())
        throw new Problem("draining", "This instance is shutting down; send the message again.", {
          retryAfterMs: 1_000,
        });
      const parentId = input.parent_id?.toLowerCase();
      const store = () => sender.send(caller, conversationId, parentId ? { ...input, parent_id: parentId } : input);
      const isAnswered = input.reply === true;
      // Where it is left to the conversation, only the commit knows whether a model answers.
      const checked = input.reply === false || isAnswered ? undefined : limits.checkAnswered(caller);
      if (checked) await checked;
      const outcome = await (isAnswered ? limits.storeAnswered(caller, store) : store());
      if (!("duplicateOf" in outcome)) {
        if (outcome.reply && !isAnswered) limits.countAnswer(caller);
        return { ...outcome, duplicate: false };
      }
      const message = requireRow(await queries.findMessageById(database, outcome.duplicateOf), "message");
      const reply = await queries.findAnswer(database, message.id);
      return { message: mapRow(message), reply: reply ? mapRow(reply) : null, duplicate: true };
    },

    /**
     * Stores an answer that a model has written to the end elsewhere. Call it for members who may write.
     * @throws Problem `not_found` when the conversation is gone.
     */
    async addAnswer(answer: Omit<queries.OtherMessage, "role">): Promise<Message> {
      const row = await withTransaction(database, (sql) =>
        queries.insertMessage(sql, { ...answer, role: "assistant" }),
      );
      const message = queries.mapToMessage(requireRow(row, "conversation"));
      metrics.messages.inc({ role: "assistant" });
      const stored = { seq: message.seq, at: new Date(message.created_at) };
      hub.publish(createEvent("message.created", message.conversation_id, stored, message));
      return message;
    },

    /** For members. @throws Problem `not_found`. */
    async get(caller: Caller, id: string): Promise<Message> {
      return mapRow(await getRow(caller, id));
    },

    /** For members; a message is only found below its own conversation. @throws Problem `not_found`. */
    async getIn(caller: Caller, conversationId: string, id: string): Promise<Message> {
      const row = await getRow(caller, id);
      return mapRow(requireRow(row.conversation_id === conversationId.toLowerCase() ? row : undefined, "message"));
    },

    /** What the caller is in the conversation of the message. @throws Problem `not_found`. */
    async getRole(caller: Caller, id: string): Promise<MemberRole> {
      return (await getRow(caller, id)).member_role;
    },

    /** In the order of reading (backward, unless only `afterSeq` is given), with one more that tells there is more. */
    async list(
      conversationId: string,
      range: { beforeSeq: number | undefined; afterSeq: number | undefined },
      limit: number,
    ): Promise<queries.Slice<Message>> {
      const { rows, fitting } = await queries.listMessages(database, conversationId, range, limit + 1);
      return { rows: rows.map(mapRow), fitting };
    },

    /** For its author. @throws Problem `not_found`, `forbidden`, `conflict`. */
    edit(caller: Caller, id: string, content: string): Promise<Message> {
      const check = ({ author_id, member_role }: VisibleRow) => {
        if (author_id !== caller.user.id || member_role === "viewer")
          throw new Problem("forbidden", "Only its author may edit a message.");
        return true;
      };
      return change(caller, id, "message.updated", check, (sql) => queries.updateContent(sql, id, content));
    },

    /**
     * For its author and the conversation's owners; a tombstone stays, which is deleted already.
     * @throws Problem `not_found`, `forbidden`, `conflict`.
     */
    async remove(caller: Caller, id: string): Promise<void> {
      const check = ({ author_id, member_role, deleted_at }: VisibleRow) => {
        if (member_role !== "owner" && (author_id !== caller.user.id || member_role === "viewer"))
          throw new Problem("forbidden", "Only its author or an owner of the conversation may delete a message.");
        return deleted_at === null;
      };
      await change(caller, id, "message.deleted", check, (sql) => queries.deleteContent(sql, id));
    },

    /** For members, on answers of a model. @throws Problem `not_found`, `conflict`. */
    async giveFeedback(caller: Caller, id: string, { rating, comment }: GiveFeedback): Promise<Feedback> {
      const row = await getRow(caller, id);
      if (row.role !== "assistant" || row.deleted_at)
        throw new Problem("conflict", "Only answers of a model can be rated.");
      return queries.upsertFeedback(database, id, caller.user.id, rating, comment ?? null);
    },
  };
}

type VisibleRow = queries.MessageRow & { member_role: MemberRole };

export type MessageService = ReturnType<typeof createMessageService>;
