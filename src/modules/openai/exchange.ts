import type { ChainPart } from "../../ai/chain-part.ts";
import type { Caller } from "../../http/authenticate.ts";
import { Problem } from "../../lib/problem.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { MessageService } from "../messages/service.ts";
import { mapToolCall } from "./map-answer.ts";
import type { CompletionRequest } from "./map-request.ts";

type Dependencies = { messages: MessageService; conversations: ConversationService };
type LastPart = Extract<ChainPart, { type: "finish" | "error" | "aborted" }>;

/** What is stored of one request that names a conversation. */
export type Exchange = {
  /** Stores the question, once; at the first sign of an answer, so that a request that gets none leaves nothing. */
  begin(): Promise<void>;
  /** Stores the answer as it ended. */
  end(part: LastPart, text: string): Promise<void>;
};

/** For members who may write. @throws Problem `not_found`, `forbidden`. */
export async function openExchange(
  { messages, conversations }: Dependencies,
  caller: Caller,
  answerId: string,
  { conversationId, question }: CompletionRequest,
): Promise<Exchange | null> {
  if (conversationId === null) return null;
  const { role } = await conversations.getPosition(caller, conversationId);
  if (role === "viewer") throw new Problem("forbidden", "Viewers of a conversation may not write in it.");
  let questionId: string | null = null;
  let hasBegun = false;

  return {
    async begin() {
      if (hasBegun) return;
      hasBegun = true;
      if (question === null) return;
      const sent = await messages.send(caller, conversationId, { content: question, reply: false });
      questionId = sent.message.id;
    },
    async end(part, text) {
      if (!hasBegun) return;
      const { models, usage, costUsd } = part;
      const toolCalls = part.type === "finish" ? part.toolCalls.map(mapToolCall) : [];
      await messages.addAnswer({
        id: answerId,
        conversationId,
        content: text,
        parentId: questionId,
        metadata: { models, ...(toolCalls.length > 0 && { tool_calls: toolCalls }) },
        model: part.type === "finish" ? part.model : (models.at(-1) ?? null),
        usage,
        costUsd,
        ...mapEnd(part),
      });
    },
  };
}

function mapEnd(part: LastPart) {
  if (part.type === "finish") return { status: "complete", finishReason: part.reason } as const;
  if (part.type === "aborted") return { status: "cancelled", finishReason: "cancelled" } as const;
  return { status: "failed", finishReason: "error", error: { code: part.code, detail: part.detail } } as const;
}
