import { type Caller, getKeyId } from "../../access/caller.ts";
import type { Database } from "../../db/client.ts";
import { createCommitPools, createGroupCommit, ITEM_LOCKED, LOCKED } from "../../db/group-commit.ts";
import type { EventLog } from "../../events/log.ts";
import { createId } from "../../lib/id.ts";
import type { Log } from "../../lib/log.ts";
import type { Metrics } from "../../lib/metrics.ts";
import { createInvalidProblem, createNotFoundProblem, Problem } from "../../lib/problem.ts";
import { isSampled, runTraced, type SpanContext, type Tracing } from "../../lib/tracing/tracing.ts";
import { createEvent } from "../../protocol/events.ts";
import type { Message } from "../../protocol/message.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import { REPLY_SCHEMA_BYTES_MAX, type ReplyFormat } from "../../protocol/reply-format.ts";
import type { BudgetService } from "../budgets/service.ts";
import type { SendMessage, SentMessage } from "./model.ts";
import {
  type Integration,
  type Lease,
  type ReplyOptions,
  type SendItem,
  type SendOutcome,
  sendMessages,
} from "./send-queries.ts";

/** A new, empty answer for a model to write. */
export type NewAnswer = {
  generationId: string;
  messageId: string;
  conversationId: string;
  seq: number;
  parentId: string;
  model: string | null;
  requestedBy: string;
  /** If null, the conversation's setting applies. */
  reasoningEffort: ReasoningEffort | null;
  replyFormat: ReplyFormat | null;
  /** Whether this instance already has the answer's lease. */
  isClaimed: boolean;
  /** The result of read_message_context (sql/functions); null if it wasn't read. */
  context: unknown;
  /** The id of the request that caused the answer, for the log. */
  requestId?: string | null;
  /** The span of that request, even if it isn't sampled. The answer continues its trace and has the same sampling decision. */
  trace?: SpanContext | undefined;
};

/** Matches a mention that requests an answer if `reply_mode` is `mention`. */
const MENTION_PATTERN = /(?:^|[^\w@])@(?:ai|assistant|parley)\b/i;

/**
 * Messages with more UTF-16 code units than this are slow to store, so they are queued separately, and other messages may overtake them. Their
 * order doesn't matter to clients: such messages don't fit in a frame, so each is sent in its own HTTP request.
 */
const LARGE_MESSAGE_CHARS = 64 * 1024;

type Author = Caller["user"];
type PendingSend = SendItem & {
  author: Author;
  arrivedAtMs: number;
  requestId: string | null;
  trace: SpanContext | undefined;
};
type SendResult = SentMessage | { duplicateOf: string };

type Dependencies = {
  database: Database;
  events: Pick<EventLog, "publishIfSubscribed">;
  metrics: Metrics;
  log: Log;
  /** Absent or null if tracing is off. */
  tracing?: Tracing | null;
  defaultModel: string;
  budgets: Pick<BudgetService, "rules" | "rejectReservation">;
  /** Reserves slots for writing this many answers on this instance. Returns null if too few are free. */
  acquireLease(answerCount: number): Lease | null;
  onAnswerCreated(answer: NewAnswer): void;
};

/** Creates a sender, which commits validated messages in batches and then pushes their events. */
export function createSender(deps: Dependencies) {
  const { database, events, metrics, log, tracing = null, defaultModel, budgets, acquireLease, onAnswerCreated } = deps;
  const userMessageCounter = metrics.messages.labels("user");
  const pools = createCommitPools(database);
  const createCommitQueue = (openPool: () => Database) =>
    createGroupCommit<PendingSend, SendOutcome>({
      getKey: ({ conversationId }) => conversationId,
      getSender: ({ authorId }) => authorId,
      // A UTF-16 code unit becomes at most three bytes of UTF-8.
      getBytes: ({ content, replyOptions }) => content.length * 3 + (replyOptions ? REPLY_SCHEMA_BYTES_MAX : 0),
      commit: (items) => traceBatch(items, () => commitBatch(openPool(), items, false)),
      waitAndCommit: (items) => traceBatch(items, () => commitBatch(pools.openLanePool(), items, true)),
    });
  const commitQueue = createCommitQueue(pools.openBatchPool);
  /** A separate queue, so that large messages don't delay others. */
  const largeMessageQueue = createCommitQueue(pools.openLanePool);

  /** Traces a batch of several requests. Its span is a child of the first sampled request's span, and links to the others. */
  function traceBatch<T>(items: PendingSend[], commit: () => Promise<T>): Promise<T> {
    const [parent, ...links] = items.flatMap(({ trace }) => (trace && isSampled(trace) ? trace : []));
    if (!tracing || !parent) return commit();
    return tracing.run("commit messages", { parent, links, attributes: { "parley.batch.size": items.length } }, commit);
  }

  async function commitBatch(sql: Database, items: PendingSend[], shouldWait: boolean) {
    // This is an upper bound, because `reply_mode` may decide only during the commit whether a model answers.
    const answersMax = items.filter(({ reply }) => reply !== false).length;
    const lease = answersMax > 0 ? acquireLease(answersMax) : null;
    try {
      const outcomes = await sendMessages(sql, items, {
        defaultModel,
        budget: budgets.rules,
        lease,
        shouldWait,
      });
      publishAll(items, outcomes, lease !== null);
      return outcomes.map((outcome) => {
        if (outcome.outcome === "locked") return LOCKED;
        return outcome.outcome === "item_locked" ? ITEM_LOCKED : outcome;
      });
    } finally {
      lease?.release();
    }
  }

  /** Publishes the committed messages. Must not throw, because the batch would then be stored again. */
  function publishAll(items: PendingSend[], outcomes: SendOutcome[], isClaimed: boolean): void {
    const nowMs = performance.now();
    let createdCount = 0;
    items.forEach((item, index) => {
      const outcome = outcomes[index];
      if (outcome?.outcome !== "created") return;
      createdCount += 1;
      metrics.messageCommitDuration.observe((nowMs - item.arrivedAtMs) / 1000);
      try {
        publish(item, outcome, isClaimed);
      } catch (error) {
        log.error({ err: error, message_id: item.id }, "a message was stored but not pushed");
      }
    });
    userMessageCounter.inc(createdCount);
  }

  /** Publishes a message and its empty answer, in order of `seq`. */
  function publish(item: PendingSend, outcome: SendOutcome, isClaimed: boolean): void {
    const { conversationId } = item;
    const answer = createAnswer(item, outcome);
    events.publishIfSubscribed(conversationId, () => {
      const message = createMessage(item, outcome);
      return [message, ...(answer ? [answer] : [])].map((created) =>
        createEvent("message.created", conversationId, { seq: created.seq, at: outcome.at }, created),
      );
    });
    if (!answer) return;
    onAnswerCreated({
      generationId: item.generationId,
      messageId: answer.id,
      conversationId,
      seq: answer.seq,
      parentId: item.id,
      model: answer.model,
      requestedBy: item.author.id,
      reasoningEffort: item.replyOptions?.reasoning_effort ?? null,
      replyFormat: item.replyOptions?.reply_format ?? null,
      isClaimed,
      context: outcome.context,
      requestId: item.requestId,
      trace: item.trace,
    });
  }

  return {
    /** Stores a message. @throws Problem `not_found`, `forbidden`, `invalid`, `budget_exceeded`, `overloaded`. */
    async send(
      caller: Caller,
      conversationId: string,
      input: SendMessage,
      integration: Integration | null = null,
    ): Promise<SendResult> {
      const author = caller.user;
      const item: PendingSend = {
        id: createId(),
        conversationId,
        author,
        authorId: author.id,
        keyId: getKeyId(caller),
        integration,
        clientMessageId: input.client_message_id ?? null,
        content: input.content,
        parentId: input.parent_id ?? null,
        reply: input.reply ?? null,
        mentionsAssistant: MENTION_PATTERN.test(input.content),
        model: input.model ?? null,
        replyOptions: getReplyOptions(input),
        answerId: createId(),
        generationId: createId(),
        arrivedAtMs: performance.now(),
        requestId: caller.requestId ?? null,
        trace: undefined,
      };
      const submit = () => (item.content.length > LARGE_MESSAGE_CHARS ? largeMessageQueue : commitQueue).submit(item);
      const outcome = await runTraced(tracing, "store message", {}, () => {
        item.trace = tracing?.getCurrentContext();
        return submit();
      });
      switch (outcome.outcome) {
        case "created":
          return { message: createMessage(item, outcome), reply: createAnswer(item, outcome) };
        case "duplicate":
          return { duplicateOf: outcome.message_id ?? item.id };
        case "forbidden":
          throw new Problem("forbidden", "Viewers can't send messages.");
        case "no_parent":
          throw createInvalidProblem("#/parent_id", "The conversation has no message with this parent_id.");
        case "budget_exceeded":
          throw budgets.rejectReservation({ userId: author.id, keyId: item.keyId }, outcome.exceeded ?? "day");
        case "not_found":
          throw createNotFoundProblem("conversation");
        case "locked":
        case "item_locked":
          throw new Error("A locked item must be committed again, so it can't be a result.");
      }
    },

    /** Closes the database connections. */
    close: pools.close,
  };
}

function getReplyOptions({ reasoning_effort, reply_format }: SendMessage): ReplyOptions | null {
  if (!reasoning_effort && !reply_format) return null;
  return { ...(reasoning_effort && { reasoning_effort }), ...(reply_format && { reply_format }) };
}

/** Creates the message as it was stored. */
function createMessage(item: PendingSend, { seq, at }: SendOutcome): Message {
  const timestamp = at.toISOString();
  return {
    id: item.id,
    conversation_id: item.conversationId,
    seq: seq ?? 0,
    role: "user",
    author: item.integration
      ? { id: item.integration.hookId, display_name: item.integration.displayName, kind: "integration" }
      : { id: item.author.id, display_name: item.author.display_name, kind: "user" },
    supplied: false,
    content: item.content,
    status: "complete",
    model: null,
    finish_reason: null,
    usage: null,
    parent_id: item.parentId,
    client_message_id: item.clientMessageId,
    error: null,
    reasoning: null,
    output: null,
    metadata: {},
    created_at: timestamp,
    updated_at: timestamp,
    deleted_at: null,
  };
}

/** Creates the empty answer that was stored with the message, if any. */
function createAnswer(item: PendingSend, outcome: SendOutcome): Message | null {
  if (outcome.answer_seq === null) return null;
  return {
    ...createMessage(item, outcome),
    id: item.answerId,
    seq: outcome.answer_seq,
    role: "assistant",
    author: null,
    content: "",
    status: "streaming",
    model: outcome.answer_model,
    parent_id: item.id,
    client_message_id: null,
  };
}
