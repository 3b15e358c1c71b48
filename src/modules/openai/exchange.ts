import type { Caller } from "../../access/caller.ts";
import type { RunEnd } from "../../ai/answer-part.ts";
import { isTemporary } from "../../db/retry.ts";
import { fitJson, fitText } from "../../db/storable.ts";
import type { StoredError } from "../../lib/error-codes.ts";
import { Problem } from "../../lib/problem.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { mapToolCall } from "./map-answer.ts";
import type { CompletionRequest } from "./map-request.ts";

/** How long a response is delayed until the exchange is stored; after that, storing continues in the background. */
export const STORE_WAIT_MS = 500;

type Dependencies = {
  messages: MessageService;
  conversations: ConversationService;
  /** Whether reasoning is stored. */
  storesReasoning: boolean;
};

type Answer = Parameters<MessageService["addAnswer"]>[0];
const unstorable: StoredError = { code: "internal", detail: "The response could not be stored." };

/**
 * The text and reasoning of an answer. `firstTokenMs` is the time from the request to the first text; null if there was
 * no text.
 */
type AnswerText = { text: string; reasoning: string; firstTokenMs: number | null };

/** Stores the question and the answer of a request that names a conversation. */
export type Exchange = {
  /**
   * Stores the question once. Called when an answer starts, so that a failed request stores nothing. If the
   * conversation is locked, `end` stores it.
   */
  begin(): Promise<void>;
  /** Stores the answer. Safe to retry after a failure. */
  end(end: RunEnd, written: AnswerText): Promise<void>;
};

/**
 * Prepares storing a request; null if it names no conversation. Requires write access.
 * @throws Problem `not_found`, `forbidden`, `quota_exceeded`.
 */
export async function openExchange(
  { messages, conversations, storesReasoning }: Dependencies,
  caller: Caller,
  answerId: string,
  { conversationId, question }: CompletionRequest,
): Promise<Exchange | null> {
  if (conversationId === null) return null;
  const { role } = await conversations.getPosition(caller, conversationId);
  if (role === "viewer") throw new Problem("forbidden", "Viewers can't write in a conversation.");
  // Checked before a model is called, because otherwise its answer might not be stored.
  if (question !== null) await messages.checkQuota(caller, question);
  let storedQuestion: Promise<string | null> | null = null;
  let hasStarted = false;

  const sendQuestion = async (): Promise<string | null> => {
    if (question === null) return null;
    // The answer's id serves as the idempotency key, so that retries store the question only once.
    const input = { content: question, reply: false, client_message_id: answerId };
    return (await messages.send(caller, conversationId, input)).message.id;
  };
  /** @returns the id of the question; null if there is none. */
  function storeQuestion(): Promise<string | null> {
    storedQuestion ??= sendQuestion().catch((error) => {
      storedQuestion = null;
      throw error;
    });
    return storedQuestion;
  }

  /** Stores the answer. If the database permanently rejects it, stores it as failed, with little more than its text. */
  async function storeAnswer(answer: Answer): Promise<void> {
    try {
      await messages.addAnswer(answer);
    } catch (error) {
      if (error instanceof Problem || isTemporary(error)) throw error;
      const failed = { status: "failed", finishReason: "error", error: unstorable } as const;
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
      await Promise.race([stored, Bun.sleep(STORE_WAIT_MS)]);
    },
    async end(end, { text, reasoning, firstTokenMs }) {
      if (!hasStarted) return;
      const parentId = await storeQuestion();
      const { models, usage, costUsd } = end;
      const content = fitText(text);
      const toolCalls = end.type === "finish" ? end.toolCalls.map(mapToolCall) : [];
      await storeAnswer({
        id: answerId,
        conversationId,
        content,
        parentId,
        metadata: {
          models,
          ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
          // With a question, its author is the requester.
          ...(parentId === null && { requested_by: caller.user.id }),
        },
        model: end.model,
        usage,
        costUsd,
        firstTokenMs,
        reasoning: storesReasoning && reasoning !== "" ? fitText(reasoning) : null,
        ...mapResult(end),
      });
    },
  };
}

function mapResult(end: RunEnd) {
  if (end.type === "finish") {
    const output = end.output === undefined ? null : fitJson(end.output.value);
    return { status: "complete", finishReason: end.reason, output } as const;
  }
  if (end.type === "aborted") return { status: "cancelled", finishReason: "cancelled" } as const;
  return { status: "failed", finishReason: "error", error: { code: end.code, detail: end.detail } } as const;
}
