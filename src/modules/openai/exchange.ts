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

/** Maximum time that a response waits for the exchange to be stored. After that, storing continues in the background. */
export const STORE_WAIT_MS_MAX = 500;

type Dependencies = {
  messages: MessageService;
  conversations: ConversationService;
  /** Whether reasoning is stored. */
  shouldStoreReasoning: boolean;
};

type Answer = Parameters<MessageService["addAnswer"]>[0];
const unstorableError: StoredError = { code: "internal", detail: "The response could not be stored." };

/**
 * The text and reasoning of an answer. `firstTokenMs` is the time from the request to the first token; null if there was no
 * text.
 */
type AnswerText = { text: string; reasoning: string; firstTokenMs: number | null };

/** Stores the exchange (the question and the answer) of a request that specifies a conversation. */
export type Exchange = {
  /**
   * Stores the question once. Called when an answer starts, so that a failed request stores nothing. If the
   * conversation is locked, `end` stores the question.
   */
  begin(): Promise<void>;
  /** Stores the answer. Can be retried after a failure. */
  end(runEnd: RunEnd, answer: AnswerText): Promise<void>;
};

/**
 * Prepares to store an exchange. Returns null if the request specifies no conversation. Requires write access.
 * @throws Problem `not_found`, `forbidden`, `quota_exceeded`.
 */
export async function prepareExchange(
  { messages, conversations, shouldStoreReasoning }: Dependencies,
  caller: Caller,
  answerId: string,
  { conversationId, question }: CompletionRequest,
): Promise<Exchange | null> {
  if (conversationId === null) return null;
  const { role } = await conversations.getPosition(caller, conversationId);
  if (role === "viewer") throw new Problem("forbidden", "Viewers can't send messages.");
  // Checked before a model is called, because an exceeded quota would prevent storing its answer.
  if (question !== null) await messages.checkQuota(caller, question);
  let questionId: Promise<string | null> | null = null;
  let hasStarted = false;

  const sendQuestion = async (): Promise<string | null> => {
    if (question === null) return null;
    // The answer's id is the client message id, so that retries store the question only once.
    const input = { content: question, reply: false, client_message_id: answerId };
    return (await messages.send(caller, conversationId, input)).message.id;
  };
  /** Stores the question once. Returns its message id; null if there is no question. */
  function storeQuestion(): Promise<string | null> {
    questionId ??= sendQuestion().catch((error) => {
      questionId = null;
      throw error;
    });
    return questionId;
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
      const storing = storeQuestion().catch((error) => {
        if (!isTemporary(error)) throw error;
      });
      await Promise.race([storing, Bun.sleep(STORE_WAIT_MS_MAX)]);
    },
    async end(runEnd, { text, reasoning, firstTokenMs }) {
      if (!hasStarted) return;
      const parentId = await storeQuestion();
      const { models, usage, costUsd } = runEnd;
      const content = toStorableText(text);
      const toolCalls = runEnd.type === "finish" ? runEnd.toolCalls.map(mapToolCall) : [];
      await storeAnswer({
        id: answerId,
        conversationId,
        content,
        parentId,
        metadata: {
          models,
          ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
          // If there is a question, its author is the requester, so this field isn't needed.
          ...(parentId === null && { requested_by: caller.user.id }),
        },
        model: runEnd.model,
        usage,
        costUsd,
        firstTokenMs,
        reasoning: shouldStoreReasoning && reasoning !== "" ? toStorableText(reasoning) : null,
        ...mapResult(runEnd),
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
