import type { Caller } from "../../access/caller.ts";
import { mapToTurns } from "../../ai/providers/map-conversation.ts";
import type { ConversationService } from "../conversations/service.ts";
import type { PromptPreview } from "../prompts/model.ts";
import type { PromptService } from "../prompts/service.ts";
import type { ContextBuilder } from "./context.ts";

type Dependencies = { contextBuilder: ContextBuilder; prompts: PromptService; conversations: ConversationService };

/** Builds previews of a model's input, with the same code that builds real requests. */
export interface PreviewBuilder {
  /**
   * Previews a prompt with the conversation's newest branch. The caller must own the prompt and be a member of the conversation.
   * @throws Problem `not_found` (prompt or conversation).
   */
  preview(caller: Caller, promptId: string, conversationId: string | undefined): Promise<PromptPreview>;
}

export function createPreviewBuilder({ contextBuilder, prompts, conversations }: Dependencies): PreviewBuilder {
  return {
    async preview(caller, promptId, conversationId) {
      const { template } = await prompts.get(caller, promptId);
      const userId = caller.user.id;
      if (conversationId) await conversations.getPosition(caller, conversationId);
      const context = conversationId
        ? await contextBuilder.build({ conversationId, fromId: null, model: null, userId, template })
        : await contextBuilder.buildWithoutConversation(userId, template);
      const { system, turns } = mapToTurns(context.messages, null);
      return {
        model: context.model,
        system: system ?? "",
        messages: conversationId
          ? turns.flatMap((turn) => (turn.role === "tool" ? [] : [{ role: turn.role, content: turn.content }]))
          : [],
        input_tokens: context.inputTokens,
        sources: context.sources,
      };
    },
  };
}
