import type { Caller } from "../../access/caller.ts";
import { type Database, requireRow, type Sql, withStatement } from "../../db/client.ts";
import type { EventLog } from "../../events/log.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createInvalid, createUnknownModel, Problem } from "../../lib/problem.ts";
import type { Limits } from "../../limits/limits.ts";
import { createEvent } from "../../protocol/events.ts";
import { type Message, type MessageRow, mapRowToMessage } from "../../protocol/message.ts";
import { REPLY_SCHEMA_BYTES_MAX, type ReplyFormat } from "../../protocol/reply-format.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { QuotaService } from "../quotas/service.ts";
import { createFeedbackService, type FeedbackService } from "./feedback.ts";
import type { SendMessage, SentMessage } from "./model.ts";
import type { OtherAnswer } from "./queries.ts";
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

/** A place in the order of a connection's messages, which are validated concurrently. */
export type SendSlot = {
  /** Resolves when the previous message has its place; absent: it has. */
  previous: Promise<void> | undefined;
  /** Called when this one has its place. */
  onSubmit(): void;
};

type Dependencies = {
  database: Database;
  events: EventLog;
  metrics: Metrics;
  log: Log;
  /** The model used if neither the message nor the conversation names one. */
  defaultModel: string;
  budgets: BudgetService;
  quotas: QuotaService;
  limits: Pick<Limits, "storeAnswered" | "checkAnswered" | "countAnswer">;
  /** The right to write this many answers on this instance; null if there is no room. */
  takeLease(answers: number): Lease | null;
  hasModel(model: string): boolean;
  /** @throws Problem `invalid` for a format that this model doesn't support, or none does if it is null. */
  checkReplyFormat(format: ReplyFormat, model: string | null): void;
  /** Whether answers may start here; not during shutdown. */
  canAnswer(): boolean;
  /** Called after an empty answer is committed, so that it is written. */
  onAnswer(answer: NewAnswer): void;
  /** The text so far of an answer written here; the stored one lags behind. */
  findLiveText(messageId: string): Pick<Message, "content" | "reasoning"> | null;
};

/**
 * Rules of messages. Lookups check membership themselves: outsiders find nothing. A message is identified by its
 * conversation and its id; the conversation is null if a frame omits it.
 */
export interface MessageService extends FeedbackService {
  /**
   * For members with write access. Resolves when the message is committed; repeating a `client_message_id` always returns
   * the same message.
   * @param slot its place in the order of a connection's messages; absent: the order in which messages are validated.
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
   * The same for an incoming hook: its creator is the caller and pays, and the integration is the author. Repeating a
   * `client_message_id` of one hook always returns the same message.
   * @throws as `send`.
   */
  post(
    creator: Caller,
    conversationId: string,
    input: SendMessage,
    integration: Integration,
  ): Promise<SentMessage & { duplicate: boolean }>;

  /** For every user: whether they may store one more message with this text. @throws Problem `quota_exceeded`. */
  checkRoom(caller: Caller, content: string): Promise<void>;

  /**
   * For members: in conversation order (backward, unless only `afterSeq` is given).
   * @param known the caller's version of the same page: returns `unchanged` if it is current.
   * @throws Problem `not_found`.
   */
  list(
    caller: Caller,
    conversationId: string,
    range: SeqRange,
    limit: number,
    known?: PageVersion,
  ): Promise<HistorySlice | "unchanged">;

  /** The numbers of messages. Access must already be checked. Missing ones are omitted. */
  findSeqs(conversationId: string, ids: readonly string[]): Promise<Map<string, number>>;

  /** For members. @throws Problem `not_found`. */
  get(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /** For members with write access. @throws Problem `not_found`, `forbidden` (viewers). */
  getWritable(caller: Caller, conversationId: string | null, messageId: string): Promise<Message>;

  /**
   * For its author. @throws Problem `not_found`, `forbidden`, `conflict` (deleted, or still being written),
   * `quota_exceeded`.
   */
  edit(caller: Caller, conversationId: string | null, messageId: string, content: string): Promise<Message>;

  /**
   * For its author and the conversation's owners. A tombstone stays; deleting it again has no effect.
   * @throws Problem `not_found`, `forbidden`, `conflict` (still being written).
   */
  remove(caller: Caller, conversationId: string | null, messageId: string): Promise<void>;

  /**
   * Stores a finished answer from outside of a generation; may be called again after a failure. The caller must have write
   * access.
   * @throws Problem `not_found` if the conversation is gone.
   */
  addAnswer(answer: OtherAnswer): Promise<Message>;

  /** Closes the connections that waited for locks. */
  close(): Promise<void>;
}

/** Bytes counted in the author's quota: the text, and the schema of its answers. */
const countBytes = ({ content, reply_format }: SendMessage): number =>
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
   * @param check checks the message under the lock; false: nothing to do. It throws if the change is not allowed.
   * @param apply returns the changed message.
   * @returns the message, changed or not.
   */
  async function change(
    caller: Caller,
    known: { conversationId: string | null; messageId: string },
    type: "message.updated" | "message.deleted",
    check: (row: queries.VisibleRow) => boolean,
    apply: (row: MessageRow, at: Date) => MessageRow,
  ): Promise<Message> {
    const { messageId } = known;
    const userId = caller.user.id;
    // Outsiders don't wait for the lock.
    const found = await queries.findConversationOf(database, known.conversationId, messageId, userId);
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

  /** Returns an already stored message even if there is no room for another one. */
  async function findRepeated(
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

  /** Checked before the commit, which would reject a whole batch. */
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
    // The same steps whether or not the message was committed in a batch, so that batched messages are acknowledged in
    // order.
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
    const isAnswered = input.reply === true;
    // If the conversation decides, only the commit knows whether a model answers.
    const checked = input.reply === false || isAnswered ? undefined : limits.checkAnswered(caller);
    if (checked) await checked;
    const take = () => (isAnswered ? limits.storeAnswered(caller, store) : store());
    const outcome = await quotas
      .take("stored_bytes", caller.user.id, countBytes(input), take)
      .catch((error) => findRepeated(error, caller, conversationId, input, integration));
    if (!("duplicateOf" in outcome)) {
      if (outcome.reply && !isAnswered) limits.countAnswer(caller);
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

    checkRoom: (caller, content) => quotas.check("stored_bytes", caller.user.id, Buffer.byteLength(content)),

    async list(caller, conversationId, range, limit, known) {
      // Read before the messages: they may be newer than this version, never older.
      const found = await queries.findVersion(database, conversationId, caller.user.id, known?.authorIds ?? []);
      const version = requireRow(found, "conversation");
      if (known && version.last_seq === known.lastSeq && Bun.deepEquals(version.names, known.names)) return "unchanged";
      // One more row shows whether there is another page.
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
      if (addedBytes > 0) return quotas.take("stored_bytes", caller.user.id, addedBytes, store);
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
      // Leaves a tombstone: the number and the author stay, the text is removed.
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
      // Even if it was stored before: the response to its commit may have been lost, and its event with it.
      events.publish([createEvent("message.created", conversationId, { seq: row.seq, at: row.created_at }, message)]);
      metrics.messages.inc({ role: "assistant" });
      return message;
    },

    close: sender.close,
  };
}
