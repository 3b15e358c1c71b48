import type { Caller } from "../../access/caller.ts";
import type { RunEnd } from "../../ai/answer-part.ts";
import { isTemporary } from "../../db/retry.ts";
import { toStorableJson, toStorableText } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import { Problem } from "../../lib/problem.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { mapToolCall } from "./map-answer.ts";
import type { CompletionRequest } from "./map-request.ts";

/** Maximum delay of a response until the exchange is stored. After that, storing continues in the background. */
export const STORE_WAIT_MS_MAX = 500;

type Dependencies = {
  messages: MessageService;
  conversations: ConversationService;
  /** Whether reasoning is stored. */
  storesReasoning: boolean;
};

type Answer = Parameters<MessageService["addAnswer"]>[0];
const unstorableError: StoredError = { code: "internal", detail: "The response could not be stored." };

/**
 * The text and reasoning of an answer. `firstTokenMs` is the time from the request to the first token; null if there was no
 * text.
 */
type AnswerText = { text: string; reasoning: string; firstTokenMs: number | null };

/** Stores the exchange (the question and the answer) of a request that names a conversation. */
export type Exchange = {
  /**
   * Stores the question once. Called when an answer starts, so that a failed request stores nothing. If the
   * conversation is locked, `end` stores the question.
   */
  begin(): Promise<void>;
  /** Stores the answer. Can be retried after a failure. */
  end(end: RunEnd, written: AnswerText): Promise<void>;
};

/**
 * Prepares to store an exchange. Returns null if the request names no conversation. Requires write access.
 * @throws Problem `not_found`, `forbidden`, `quota_exceeded`.
 */
export async function prepareExchange(
  { messages, conversations, storesReasoning }: Dependencies,
  caller: Caller,
  answerId: string,
  { conversationId, question }: CompletionRequest,
): Promise<Exchange | null> {
  if (conversationId === null) return null;
  const { role } = await conversations.getPosition(caller, conversationId);
  if (role === "viewer") throw new Problem("forbidden", "Viewers can't write in a conversation.");
  // Checked before a model is called, because an exceeded quota would prevent storing its answer.
  if (question !== null) await messages.checkQuota(caller, question);
  let storedQuestion: Promise<string | null> | null = null;
  let hasStarted = false;

  const sendQuestion = async (): Promise<string | null> => {
    if (question === null) return null;
    // The answer's id is the client message id, so that retries store the question only once.
    const input = { content: question, reply: false, client_message_id: answerId };
    return (await messages.send(caller, conversationId, input)).message.id;
  };
  /** Stores the question once. Returns its message id; null if there is no question. */
  function storeQuestion(): Promise<string | null> {
    storedQuestion ??= sendQuestion().catch((error) => {
      storedQuestion = null;
      throw error;
    });
    return storedQuestion;
  }

  /** Stores the answer. If the database permanently rejects it, stores it as failed and without most of its metadata. */
  async function storeAnswer(answer: Answer): Promise<void> {
    try {
      await messages.addAnswer(answer);
    } catch (error) {
      if (error instanceof Problem || isTemporary(error)) throw error;
      const failed = { status: "failed", finishReason: "error", error: unstorableError } as const;
      const clearedFields = { model: null, usage: null, costUsd: null, metadata: {} };
      await messages.addAnswer({ ...answer, ...clearedFields, ...failed });
    }
  }

  return {
    async begin() {
      if (hasStarted) return;
      hasStarted = true;
      const stored = storeQuestion().catch((error) => {
        if (!isTemporary(error)) throw error;
      });
      await Promise.race([stored, Bun.sleep(STORE_WAIT_MS_MAX)]);
    },
    async end(end, { text, reasoning, firstTokenMs }) {
      if (!hasStarted) return;
      const parentId = await storeQuestion();
      const { models, usage, costUsd } = end;
      const content = toStorableText(text);
      const toolCalls = end.type === "finish" ? end.toolCalls.map(mapToolCall) : [];
      await storeAnswer({
        id: answerId,
        conversationId,
        content,
        parentId,
        metadata: {
          models,
          ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
          // If there is a question, its author is the requester.
          ...(parentId === null && { requested_by: caller.user.id }),
        },
        model: end.model,
        usage,
        costUsd,
        firstTokenMs,
        reasoning: storesReasoning && reasoning !== "" ? toStorableText(reasoning) : null,
        ...mapResult(end),
      });
    },
  };
}

function mapResult(end: RunEnd) {
  if (end.type === "finish") {
    const output = end.output === undefined ? null : toStorableJson(end.output.value);
    return { status: "complete", finishReason: end.reason, output } as const;
  }
  if (end.type === "aborted") return { status: "cancelled", finishReason: "cancelled" } as const;
  return { status: "failed", finishReason: "error", error: { code: end.code, detail: end.detail } } as const;
}
