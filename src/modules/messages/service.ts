import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withStatement } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createInvalidProblem, createUnknownModelProblem, Problem } from "../../lib/problem.ts";
import type { Tracing } from "../../lib/tracing/tracing.ts";
import type { Limits } from "../../limits/limits.ts";
import { createEvent } from "../../protocol/events.ts";
import { type Message, type MessageRow, mapRowToMessage } from "../../protocol/message.ts";
import { REPLY_SCHEMA_BYTES_MAX, type ReplyFormat } from "../../protocol/reply-format.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import { createFeedbackService, type FeedbackService } from "./feedback.ts";
import type { SendMessage, SentMessage } from "./model.ts";
import type { ExternalAnswer } from "./queries.ts";
import * as queries from "./queries.ts";
import { createPageVersion, type HistorySlice, type PageVersion, type SeqRange } from "./range.ts";
import type { Integration, Lease } from "./send-queries.ts";
import { createSender, type NewAnswer } from "./sender.ts";

export { appendToolMessage } from "./append-tool-message.ts";
export { createHistory } from "./history.ts";
export { fitTokens } from "./queries.ts";
export { createRecovery, mergeEvents, type Recovery, type StartPosition } from "./recovery.ts";
export type { Lease, ReplyOptions } from "./send-queries.ts";
export type { NewAnswer } from "./sender.ts";
export { createStreams, type Streams } from "./streams.ts";

/** Keeps the order of a connection's messages, which are validated concurrently. */
export type SendSlot = {
  /** Resolves when the previous message has been submitted; undefined if it already has been. */
  previousSubmitted: Promise<void> | undefined;
  /** Call this when this message has been submitted. */
  onSubmit(): void;
};

type Dependencies = {
  database: Database;
  events: EventLog;
  metrics: Metrics;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
  /** The model used if neither the message nor the conversation specifies one. */
  defaultModel: string;
  budgets: BudgetService;
  quotas: QuotaService;
  limits: Pick<Limits, "storeAnsweredMessage" | "checkAnswerLimit" | "countAnswer">;
  /** Reserves slots for writing this many answers on this instance. Returns null if too few are free. */
  acquireLease(answerCount: number): Lease | null;
  hasModel(model: string): boolean;
  /** @throws Problem `invalid` if the model doesn't support the format or, if `model` is null, no model does. */
  checkReplyFormat(format: ReplyFormat, model: string | null): void;
  /** Returns whether answers can start on this instance; false during shutdown. */
  canAnswer(): boolean;
  /** Called after an empty answer was committed, so that a model writes it. */
  onAnswerCreated(answer: NewAnswer): void;
  /** Returns the current text of an answer that this instance is writing. The stored text is older. */
  findLiveText(messageId: string): Pick<Message, "content" | "reasoning"> | null;
};

/**
 * Sends, reads and changes messages. Unless stated otherwise, methods check the caller's membership and throw `not_found` for
 * outsiders. If a frame omits the conversation, `conversationId` is null.
 */
export interface MessageService extends FeedbackService {
  /**
   * Sends a message. Requires write access. Resolves when the message is committed. Sending the same `client_message_id` again
   * returns the same message.
   * @param slot keeps the order of a connection's messages. Without it, messages are stored in the order in which their validation
   * finishes.
   * @throws Problem `not_found`, `forbidden` (viewers), `invalid` (parent), `unknown_model`, `rate_limited`,
   * `budget_exceeded`, `quota_exceeded`, `draining`, `unavailable`.
   */
  send(
    caller: Caller,
    conversationId: string,
    input: SendMessage,
    slot?: SendSlot,
  ): Promise<SentMessage & { duplicate: boolean }>;

  /**
   * Sends a message from an incoming hook, which is its author. The message counts toward the limits of the hook's creator. If the
   * hook sends the same `client_message_id` again, the same message is returned.
   * @throws the same errors as `send`.
   */
  sendFromHook(
    creator: Caller,
    conversationId: string,
    input: SendMessage,
    integration: Integration,
  ): Promise<SentMessage & { duplicate: boolean }>;

  /** Checks that the caller's quota allows a message with this text. @throws Problem `quota_exceeded`. */
  checkQuota(caller: Caller, content: string): Promise<void>;

  /**
   * Lists messages, newest first unless only `afterSeq` is given. Members only.
   * @param knownVersion the version of a cached page. If it is still current, `unchanged` is returned.
   * @throws Problem `not_found`.
   */
  list(
    caller: Caller,
    conversationId: string,
    range: SeqRange,
    limit: number,
    knownVersion?: PageVersion,
  ): Promise<HistorySlice | "unchanged">;

  /** Finds the `seq` of messages by id, and omits messages that don't exist. Doesn't check access. */
  findSeqs(conversationId: string, ids: readonly string[]): Promise<Map<string, number>>;

  /** Returns a message. Members only. @throws Problem `not_found`. */
  get(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /** Returns a message. Requires write access. @throws Problem `not_found`, `forbidden` (viewers). */
  getWritable(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /**
   * Changes a message's text. Author only.
   * @throws Problem `not_found`, `forbidden`, `conflict` (deleted, or still being written), `quota_exceeded`.
   */
  edit(caller: Caller, conversationId: string | null, messageId: string, content: string): Promise<Message>;

  /**
   * Deletes a message, leaving a tombstone. Author and owners only. Deleting it again has no effect.
   * @throws Problem `not_found`, `forbidden`, `conflict` (still being written).
   */
  remove(caller: Caller, conversationId: string | null, messageId: string): Promise<void>;

  /**
   * Stores a finished answer that wasn't written by a generation. Can be retried after a failure. Doesn't check access.
   * @throws Problem `not_found` if the conversation was deleted.
   */
  addAnswer(answer: ExternalAnswer): Promise<Message>;

  /** Closes the database connections for sending. */
  close(): Promise<void>;
}

/** Counts the bytes for the author's quota: the text and the reply format. */
const countQuotaBytes = ({ content, reply_format }: SendMessage): number =>
  Buffer.byteLength(content) + (reply_format ? Buffer.byteLength(JSON.stringify(reply_format)) : 0);

export function createMessageService(deps: Dependencies): MessageService {
  const { database, events, metrics, limits, quotas, hasModel, checkReplyFormat, canAnswer, findLiveText } = deps;
  const sender = createSender(deps);

  function mapRow(row: MessageRow): Message {
    const message = mapRowToMessage(row);
    if (message.status !== "streaming") return message;
    return { ...message, ...findLiveText(message.id) };
  }

  async function getRow(caller: Caller, conversationId: string | null, messageId: string): Promise<queries.VisibleRow> {
    return requireRow(await queries.findMessage(database, conversationId, messageId, caller.user.id), "message");
  }

  /**
   * Changes a message and appends the event, in one transaction.
   * @param checkChange called with the locked message. Throws if the change is not allowed. Returns false if no change is needed.
   * @param apply returns the changed message.
   */
  async function change(
    caller: Caller,
    target: { conversationId: string | null; messageId: string },
    type: "message.updated" | "message.deleted",
    checkChange: (row: queries.VisibleRow) => boolean,
    apply: (row: MessageRow, at: Date) => MessageRow,
  ): Promise<Message> {
    const { messageId } = target;
    const userId = caller.user.id;
    // Access is checked before locking, so that an outsider's request never waits for the lock.
    const foundId = await queries.findConversationId(database, target.conversationId, messageId, userId);
    const conversationId = requireRow(foundId, "message");
    return events.write(conversationId, async ({ sql, append }) => {
      const row = requireRow(await queries.lockMessage(sql, conversationId, messageId, userId), "message");
      if (!checkChange(row)) return mapRowToMessage(row);
      if (row.deleted_at || row.status === "streaming")
        throw new Problem("conflict", "The message is deleted or still being written.");
      return append(type, conversationId, async ({ at }) => {
        const changedRow = apply(row, at);
        await queries.updateContent(
          sql,
          changedRow,
          Buffer.byteLength(changedRow.content) - Buffer.byteLength(row.content),
        );
        return mapRowToMessage(changedRow);
      });
    });
  }

  /**
   * Finds the message that the first send stored, if a resend exceeded the quota. A resend must succeed even if the quota is
   * exhausted. Throws all other errors.
   */
  async function findDuplicate(
    error: unknown,
    caller: Caller,
    conversationId: string,
    input: SendMessage,
    integration: Integration | null,
  ) {
    if (error instanceof Problem && error.code === "quota_exceeded" && input.client_message_id) {
      const { client_message_id: clientMessageId } = input;
      const userId = caller.user.id;
      const id = await queries.findSentMessageId(database, conversationId, userId, clientMessageId, integration);
      if (id !== undefined) return { duplicateOf: id };
    }
    throw error;
  }

  /** Checks the input, because invalid input would make the commit of a whole batch fail. */
  function checkInput({ model, reply_format }: SendMessage): void {
    if (model && !hasModel(model)) throw createUnknownModelProblem(model);
    if (!reply_format) return;
    if (Buffer.byteLength(JSON.stringify(reply_format.schema)) > REPLY_SCHEMA_BYTES_MAX)
      throw createInvalidProblem(
        "#/reply_format/schema",
        `reply_format.schema may have at most ${REPLY_SCHEMA_BYTES_MAX} bytes as JSON.`,
      );
    checkReplyFormat(reply_format, model ?? null);
  }

  async function sendAs(
    integration: Integration | null,
    caller: Caller,
    conversationId: string,
    input: SendMessage,
    slot?: SendSlot,
  ): Promise<SentMessage & { duplicate: boolean }> {
    checkInput(input);
    if (input.reply !== false && !canAnswer())
      throw new Problem("draining", "This instance is shutting down. Send the message again.", {
        retryAfterMs: 1_000,
      });
    const parentId = input.parent_id?.toLowerCase();
    // Every code path awaits the same number of times, so that the messages of a batch are acknowledged in order.
    const store = async () => {
      if (slot?.previousSubmitted) await slot.previousSubmitted;
      const sent = sender.send(
        caller,
        conversationId,
        parentId ? { ...input, parent_id: parentId } : input,
        integration,
      );
      slot?.onSubmit();
      return sent;
    };
    const isReplyRequested = input.reply === true;
    // If `reply_mode` decides whether a model answers, this is known only after the commit.
    const limitCheck = input.reply === false || isReplyRequested ? undefined : limits.checkAnswerLimit(caller);
    if (limitCheck) await limitCheck;
    const storeWithinLimits = () => (isReplyRequested ? limits.storeAnsweredMessage(caller, store) : store());
    const outcome = await quotas
      .reserve("stored_bytes", caller.user.id, countQuotaBytes(input), storeWithinLimits)
      .catch((error) => findDuplicate(error, caller, conversationId, input, integration));
    if (!("duplicateOf" in outcome)) {
      if (outcome.reply && !isReplyRequested) limits.countAnswer(caller);
      return { ...outcome, duplicate: false };
    }
    const storedRow = await queries.findMessageById(database, conversationId, outcome.duplicateOf);
    const message = requireRow(storedRow, "message");
    const reply = await queries.findAnswer(database, conversationId, message.id);
    return { message: mapRow(message), reply: reply ? mapRow(reply) : null, duplicate: true };
  }

  return {
    send: (caller, conversationId, input, slot) => sendAs(null, caller, conversationId, input, slot),

    sendFromHook: (creator, conversationId, input, integration) => sendAs(integration, creator, conversationId, input),

    checkQuota: (caller, content) => quotas.check("stored_bytes", caller.user.id, Buffer.byteLength(content)),

    async list(caller, conversationId, range, limit, knownVersion) {
      // The version is read first, so the messages may be newer than the version, but never older.
      const versionRow = await queries.findPageVersion(
        database,
        conversationId,
        caller.user.id,
        knownVersion?.authorIds ?? [],
      );
      const version = requireRow(versionRow, "conversation");
      if (
        knownVersion &&
        version.last_seq === knownVersion.lastSeq &&
        Bun.deepEquals(version.names, knownVersion.names)
      )
        return "unchanged";
      // An extra row shows whether there is another page.
      const { rows, fittingCount } = await queries.listMessages(database, conversationId, range, limit + 1);
      const messages = rows.map(mapRow);
      return { rows: messages, fittingCount, version: createPageVersion(version.last_seq, messages) };
    },

    findSeqs: (conversationId, ids) => queries.findSeqs(database, conversationId, ids),

    get: async (caller, conversationId, messageId) => mapRow(await getRow(caller, conversationId, messageId)),

    async getWritable(caller, conversationId, messageId) {
      const row = await getRow(caller, conversationId, messageId);
      if (row.member_role === "viewer") throw new Problem("forbidden", "Viewers can't change messages.");
      return mapRow(row);
    },

    async edit(caller, conversationId, messageId, content) {
      const checkEdit = ({ author_id, member_role }: queries.VisibleRow) => {
        if (author_id !== caller.user.id || member_role === "viewer")
          throw new Problem("forbidden", "Only the author can edit a message.");
        return true;
      };
      const store = () =>
        change(caller, { conversationId, messageId }, "message.updated", checkEdit, (row, at) => ({
          ...row,
          content,
          updated_at: at,
        }));
      const current = await getRow(caller, conversationId, messageId);
      const addedBytes = Buffer.byteLength(content) - Buffer.byteLength(current.content);
      if (addedBytes > 0) return quotas.reserve("stored_bytes", caller.user.id, addedBytes, store);
      const message = await store();
      quotas.invalidate(caller.user.id);
      return message;
    },

    async remove(caller, conversationId, messageId) {
      const checkDeletion = ({ author_id, member_role, deleted_at }: queries.VisibleRow) => {
        if (member_role !== "owner" && (author_id !== caller.user.id || member_role === "viewer"))
          throw new Problem("forbidden", "Only the author or an owner of the conversation can delete a message.");
        return deleted_at === null;
      };
      // Leaves a tombstone, which keeps the `seq` and the author.
      await change(caller, { conversationId, messageId }, "message.deleted", checkDeletion, (row, at) => ({
        ...row,
        content: "",
        reasoning: null,
        output: null,
        updated_at: at,
        deleted_at: at,
      }));
      quotas.invalidate(caller.user.id);
    },

    ...createFeedbackService({ database, quotas, getRow }),

    async addAnswer(answer) {
      const { conversationId } = answer;
      const store = (sql: Sql, lockTimeoutMs: number) => queries.storeAnswer(sql, answer, lockTimeoutMs);
      const row = requireRow(await withStatement(database, store, conversationId), "conversation");
      const message = mapRowToMessage(row);
      // The event is published even if the answer was already stored, because an earlier attempt may have failed after its commit.
      events.publish([createEvent("message.created", conversationId, { seq: row.seq, at: row.created_at }, message)]);
      metrics.messages.inc({ role: "assistant" });
      return message;
    },

    close: sender.close,
  };
}
