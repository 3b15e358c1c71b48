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

/** How long an answer waits for what is stored of it; after that, it is stored in the background. */
export const STORE_WAIT_MS = 500;

type Dependencies = { messages: MessageService; conversations: ConversationService };

type Answer = Parameters<MessageService["addAnswer"]>[0];
const unstorable: StoredError = { code: "internal", detail: "The answer could not be stored." };

/** What is stored of one request that names a conversation. */
export type Exchange = {
  /**
   * Stores the question, once; at the first sign of an answer, so that a request that gets none leaves nothing. If the
   * conversation is locked, it is left to `end`.
   */
  begin(): Promise<void>;
  /** Stores the answer as it ended; after a failure it may be called again. */
  end(end: RunEnd, text: string, firstTokenMs: number | null): Promise<void>;
};

/** For members who may write. @throws Problem `not_found`, `forbidden`, `quota_exceeded`. */
export async function openExchange(
  { messages, conversations }: Dependencies,
  caller: Caller,
  answerId: string,
  { conversationId, question }: CompletionRequest,
): Promise<Exchange | null> {
  if (conversationId === null) return null;
  const { role } = await conversations.getPosition(caller, conversationId);
  if (role === "viewer") throw new Problem("forbidden", "Viewers of a conversation may not write in it.");
  // Before a model is asked: what it says could not be stored.
  if (question !== null) await messages.checkRoom(caller, question);
  let asked: Promise<string | null> | null = null;
  let hasBegun = false;

  const sendQuestion = async (): Promise<string | null> => {
    if (question === null) return null;
    // So that it is stored once, however often it is tried.
    const input = { content: question, reply: false, client_message_id: answerId };
    return (await messages.send(caller, conversationId, input)).message.id;
  };
  /** @returns its id. */
  function storeQuestion(): Promise<string | null> {
    asked ??= sendQuestion().catch((error) => {
      asked = null;
      throw error;
    });
    return asked;
  }

  /** If the database refuses an answer for good, it is stored as failed, with its text and no more than is needed. */
  async function storeAnswer(answer: Answer): Promise<void> {
    try {
      await messages.addAnswer(answer);
    } catch (error) {
      if (error instanceof Problem || isTemporary(error)) throw error;
      const failed = { status: "failed", finishReason: "error", error: unstorable } as const;
      const bare = { model: null, usage: null, costUsd: null, metadata: {} };
      await messages.addAnswer({ ...answer, ...bare, ...failed });
    }
  }

  return {
    async begin() {
      if (hasBegun) return;
      hasBegun = true;
      const stored = storeQuestion().catch((error) => {
        if (!isTemporary(error)) throw error;
      });
      await Promise.race([stored, Bun.sleep(STORE_WAIT_MS)]);
    },
    async end(end, text, firstTokenMs) {
      if (!hasBegun) return;
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
          // Otherwise the author of the question asked for it.
          ...(parentId === null && { requested_by: caller.user.id }),
        },
        model: end.model,
        usage,
        costUsd,
        firstTokenMs,
        ...mapEnd(end),
      });
    },
  };
}

function mapEnd(end: RunEnd) {
  if (end.type === "finish") {
    const output = end.output === undefined ? null : fitJson(end.output.value);
    return { status: "complete", finishReason: end.reason, output } as const;
  }
  if (end.type === "aborted") return { status: "cancelled", finishReason: "cancelled" } as const;
  return { status: "failed", finishReason: "error", error: { code: end.code, detail: end.detail } } as const;
}
