import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withStatement } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createInvalid, createUnknownModel, Problem } from "../../lib/problem.ts";
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
import { createVersion, type HistorySlice, type PageVersion, type SeqRange } from "./range.ts";
import type { Integration, Lease } from "./send-queries.ts";
import { createSender, type NewAnswer } from "./sender.ts";

export { appendToolMessage } from "./append-tool-message.ts";
export { createHistory } from "./history.ts";
export { fitTokens } from "./queries.ts";
export { collectEvents, createRecovery, type Recovery, type StartPosition } from "./recovery.ts";
export type { Lease, ReplyOptions } from "./send-queries.ts";
export type { NewAnswer } from "./sender.ts";
export { createStreams, type Streams } from "./streams.ts";

/** A position in the order of a connection's messages, which are validated concurrently. */
export type SendSlot = {
  /** Resolves when the previous message has been submitted; undefined if it already has been. */
  previous: Promise<void> | undefined;
  /** Called when this message has been submitted. */
  onSubmit(): void;
};

type Dependencies = {
  database: Database;
  events: EventLog;
  metrics: Metrics;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
  /** The model used if neither the message nor the conversation names one. */
  defaultModel: string;
  budgets: BudgetService;
  quotas: QuotaService;
  limits: Pick<Limits, "storeAnswered" | "checkAnswered" | "countAnswer">;
  /** Reserves slots for writing this many answers on this instance; null if too few are free. */
  acquireLease(answers: number): Lease | null;
  hasModel(model: string): boolean;
  /** @throws Problem `invalid` if the model doesn't support the format. If `model` is null: if no model does. */
  checkReplyFormat(format: ReplyFormat, model: string | null): void;
  /** Whether answers may start here; not during shutdown. */
  canAnswer(): boolean;
  /** Called after an empty answer was committed, so that a model writes it. */
  onAnswer(answer: NewAnswer): void;
  /** Returns the current text of an answer that this instance is writing; the stored text lags behind. */
  findLiveText(messageId: string): Pick<Message, "content" | "reasoning"> | null;
};

/**
 * Messages and their access rules. All methods check membership; for outsiders, nothing is found. A message is
 * identified by its conversation and its id; the conversation is null if a frame omits it.
 */
export interface MessageService extends FeedbackService {
  /**
   * Sends a message. Requires write access. Resolves when the message is committed; repeating a `client_message_id`
   * always returns the same message.
   * @param slot the position among a connection's messages; without it, messages are stored in the order in which their
   * validation finishes.
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
   * Sends a message from an incoming hook. Its creator is the caller and is charged; the integration is the author.
   * Repeating a `client_message_id` of the same hook always returns the same message.
   * @throws the same as `send`.
   */
  post(
    creator: Caller,
    conversationId: string,
    input: SendMessage,
    integration: Integration,
  ): Promise<SentMessage & { duplicate: boolean }>;

  /** Checks that the caller's quota allows another message with this text. @throws Problem `quota_exceeded`. */
  checkQuota(caller: Caller, content: string): Promise<void>;

  /**
   * Lists messages, newest first unless only `afterSeq` is given. Members only.
   * @param known a version of the same page; if it is current, `unchanged` is returned.
   * @throws Problem `not_found`.
   */
  list(
    caller: Caller,
    conversationId: string,
    range: SeqRange,
    limit: number,
    known?: PageVersion,
  ): Promise<HistorySlice | "unchanged">;

  /** Finds the `seq` of messages by id; omits messages that don't exist. Access must already be checked. */
  findSeqs(conversationId: string, ids: readonly string[]): Promise<Map<string, number>>;

  /** Returns a message. Members only. @throws Problem `not_found`. */
  get(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /** Returns a message if the caller has write access. @throws Problem `not_found`, `forbidden` (viewers). */
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
   * Stores a finished answer that wasn't written by a generation. Safe to retry after a failure. Write access must
   * already be checked.
   * @throws Problem `not_found` if the conversation is gone.
   */
  addAnswer(answer: ExternalAnswer): Promise<Message>;

  /** Closes the database connections for sending. */
  close(): Promise<void>;
}

/** Counts the bytes for the author's quota: the text, and the schema for its answers. */
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
   * Changes a message in one transaction, with its event.
   * @param check checks the locked message. It throws if the change is not allowed, and returns false if nothing has to
   * be changed.
   * @param apply returns the changed message.
   * @returns the message, whether or not it was changed.
   */
  async function change(
    caller: Caller,
    target: { conversationId: string | null; messageId: string },
    type: "message.updated" | "message.deleted",
    check: (row: queries.VisibleRow) => boolean,
    apply: (row: MessageRow, at: Date) => MessageRow,
  ): Promise<Message> {
    const { messageId } = target;
    const userId = caller.user.id;
    // Checked first, so that outsiders don't wait for the lock.
    const found = await queries.findConversationId(database, target.conversationId, messageId, userId);
    const conversationId = requireRow(found, "message");
    return events.write(conversationId, async ({ sql, append }) => {
      const row = requireRow(await queries.lockMessage(sql, conversationId, messageId, userId), "message");
      if (!check(row)) return mapRowToMessage(row);
      if (row.deleted_at || row.status === "streaming")
        throw new Problem("conflict", "The message is deleted or still being written.");
      return append(type, conversationId, async ({ at }) => {
        const changed = apply(row, at);
        await queries.updateContent(sql, changed, Buffer.byteLength(changed.content) - Buffer.byteLength(row.content));
        return mapRowToMessage(changed);
      });
    });
  }

  /** Finds the stored message of a repeated send, which must succeed even if the quota is used up. */
  async function findDuplicate(
    error: unknown,
    caller: Caller,
    conversationId: string,
    input: SendMessage,
    integration: Integration | null,
  ) {
    if (error instanceof Problem && error.code === "quota_exceeded" && input.client_message_id) {
      const { client_message_id: clientId } = input;
      const id = await queries.findSent(database, conversationId, caller.user.id, clientId, integration);
      if (id !== undefined) return { duplicateOf: id };
    }
    throw error;
  }

  /** Checks the input before the commit, which would otherwise reject a whole batch. */
  function checkInput({ model, reply_format }: SendMessage): void {
    if (model && !hasModel(model)) throw createUnknownModel(model);
    if (!reply_format) return;
    if (Buffer.byteLength(JSON.stringify(reply_format.schema)) > REPLY_SCHEMA_BYTES_MAX)
      throw createInvalid(
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
    // Takes the same number of async steps on every path, so that messages of a batch are acknowledged in order.
    const store = async () => {
      if (slot?.previous) await slot.previous;
      const sent = sender.send(
        caller,
        conversationId,
        parentId ? { ...input, parent_id: parentId } : input,
        integration,
      );
      slot?.onSubmit();
      return sent;
    };
    const wantsReply = input.reply === true;
    // If the conversation decides whether a model answers, this is known only after the commit.
    const limitCheck = input.reply === false || wantsReply ? undefined : limits.checkAnswered(caller);
    if (limitCheck) await limitCheck;
    const storeWithinLimits = () => (wantsReply ? limits.storeAnswered(caller, store) : store());
    const outcome = await quotas
      .reserve("stored_bytes", caller.user.id, countQuotaBytes(input), storeWithinLimits)
      .catch((error) => findDuplicate(error, caller, conversationId, input, integration));
    if (!("duplicateOf" in outcome)) {
      if (outcome.reply && !wantsReply) limits.countAnswer(caller);
      return { ...outcome, duplicate: false };
    }
    const stored = await queries.findMessageById(database, conversationId, outcome.duplicateOf);
    const message = requireRow(stored, "message");
    const reply = await queries.findAnswer(database, conversationId, message.id);
    return { message: mapRow(message), reply: reply ? mapRow(reply) : null, duplicate: true };
  }

  return {
    send: (caller, conversationId, input, slot) => sendAs(null, caller, conversationId, input, slot),

    post: (creator, conversationId, input, integration) => sendAs(integration, creator, conversationId, input),

    checkQuota: (caller, content) => quotas.check("stored_bytes", caller.user.id, Buffer.byteLength(content)),

    async list(caller, conversationId, range, limit, known) {
      // Read before the messages, which may then be newer than this version, but never older.
      const found = await queries.findVersion(database, conversationId, caller.user.id, known?.authorIds ?? []);
      const version = requireRow(found, "conversation");
      if (known && version.last_seq === known.lastSeq && Bun.deepEquals(version.names, known.names)) return "unchanged";
      // One extra row tells whether there is another page.
      const { rows, fitting } = await queries.listMessages(database, conversationId, range, limit + 1);
      const messages = rows.map(mapRow);
      return { rows: messages, fitting, version: createVersion(version.last_seq, messages) };
    },

    findSeqs: (conversationId, ids) => queries.findSeqs(database, conversationId, ids),

    get: async (caller, conversationId, messageId) => mapRow(await getRow(caller, conversationId, messageId)),

    async getWritable(caller, conversationId, messageId) {
      const row = await getRow(caller, conversationId, messageId);
      if (row.member_role === "viewer") throw new Problem("forbidden", "Viewers can't write in a conversation.");
      return mapRow(row);
    },

    async edit(caller, conversationId, messageId, content) {
      const check = ({ author_id, member_role }: queries.VisibleRow) => {
        if (author_id !== caller.user.id || member_role === "viewer")
          throw new Problem("forbidden", "Only the author can edit a message.");
        return true;
      };
      const store = () =>
        change(caller, { conversationId, messageId }, "message.updated", check, (row, at) => ({
          ...row,
          content,
          updated_at: at,
        }));
      const before = await getRow(caller, conversationId, messageId);
      const addedBytes = Buffer.byteLength(content) - Buffer.byteLength(before.content);
      if (addedBytes > 0) return quotas.reserve("stored_bytes", caller.user.id, addedBytes, store);
      const message = await store();
      quotas.invalidate(caller.user.id);
      return message;
    },

    async remove(caller, conversationId, messageId) {
      const check = ({ author_id, member_role, deleted_at }: queries.VisibleRow) => {
        if (member_role !== "owner" && (author_id !== caller.user.id || member_role === "viewer"))
          throw new Problem("forbidden", "Only the author or an owner of the conversation can delete a message.");
        return deleted_at === null;
      };
      // Leaves a tombstone: the `seq` and the author are kept, the text is removed.
      await change(caller, { conversationId, messageId }, "message.deleted", check, (row, at) => ({
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
      // Published even if the answer was already stored: the response to that commit may have been lost, and the event
      // with it.
      events.publish([createEvent("message.created", conversationId, { seq: row.seq, at: row.created_at }, message)]);
      metrics.messages.inc({ role: "assistant" });
      return message;
    },

    close: sender.close,
  };
}
