import type { BudgetOf } from "../../ai/models.ts";
import type { ChatMessage } from "../../ai/provider.ts";
import { countMessage, countMessages } from "../../ai/tokens.ts";
import { type Database, requireRow } from "../../db/client.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { FoundPassage } from "../documents/service.ts";
import { createVariables, renderTemplate } from "../prompts/service.ts";
import { type ContextSetting, type FoundContext, findContext, findRequester, listHistory } from "./context-queries.ts";
import { limitPassages, type Source, writeGroupNote, writePassages } from "./context-texts.ts";
import { collectHistory } from "./history.ts";
import { walkPath } from "./path.ts";

/** Document passages per answer. */
const CONTEXT_PASSAGES_MAX = 5;

type ContextRequest = {
  conversationId: string;
  /** The newest message shown, after its ancestors; null for the newest of the conversation. */
  fromId: string | null;
  /** The model tried first; null for the conversation's own, else the default. */
  model: string | null;
  /** The user who asks. */
  userId: string | null;
  /** Replaces the conversation's prompt; belongs to the user who asks. */
  template?: string;
  /** Data read with the commit of the question; absent: it is read now. */
  found?: FoundContext | undefined;
};

export type Context = {
  model: string;
  messages: ChatMessage[];
  /** Documents whose passages are included. */
  sources: Source[];
  /** Estimated tokens of all messages. */
  inputTokens: number;
  /** Tokens of the conversation alone, including its summary, and their limit. */
  history: { tokens: number; tokensMax: number };
  /** Whether messages were omitted without being in a summary. */
  isCut: boolean;
  /** Whether the conversation's title is still unset. */
  isUntitled: boolean;
  /** The tools that the model may call: all, none, or these names. */
  tools: boolean | readonly string[];
  /** How much the model thinks, if the conversation says so; null: unset. */
  reasoningEffort: ReasoningEffort | null;
};

export type ContextDependencies = {
  database: Database;
  budgetOf: BudgetOf;
  defaultModel: string;
  searchPassages(question: string, limit: number): Promise<FoundPassage[]>;
};

/** Builds what a model receives, for answers and previews alike. */
export interface Contexts {
  /** Access must already be checked. @throws Problem `not_found` if the conversation is gone. */
  build(request: ContextRequest): Promise<Context>;

  /** Renders a prompt without a conversation, as its owner would see it. @throws Problem `not_found`. */
  buildWithoutConversation(userId: string, template: string): Promise<Context>;
}

/** Builds the service. */
export function createContexts({ database, budgetOf, defaultModel, searchPassages }: ContextDependencies): Contexts {
  /** The rendered prompt. It may only use its author's own preferences, not those of other users. */
  function renderPrompt(setting: Partial<ContextSetting>, model: string, template: string, isOwn: boolean): string {
    const { user_id, display_name, preferences, id, title = "", kind = "direct" } = setting;
    const variables = createVariables({
      user: user_id ? { id: user_id, display_name: display_name ?? "" } : null,
      preferences: isOwn ? (preferences ?? {}) : {},
      conversation: id ? { id, title, kind } : null,
      model,
      now: new Date(),
    });
    return renderTemplate(template, variables);
  }

  /**
   * Inserts document passages right before the question rather than at the start: what comes before stays the same from
   * answer to answer, so providers can cache it.
   */
  async function addPassages(
    messages: ChatMessage[],
    tokensMax: number,
  ): Promise<{ sources: Source[]; tokens: number }> {
    const questionIndex = messages.findLastIndex(({ role }) => role === "user");
    const question = messages[questionIndex]?.content;
    if (question === undefined || tokensMax === 0) return { sources: [], tokens: 0 };
    const { text, sources } = writePassages(await searchPassages(question, CONTEXT_PASSAGES_MAX), tokensMax);
    if (text === null) return { sources, tokens: 0 };
    const passages: ChatMessage = { role: "user", content: text };
    messages.splice(questionIndex, 0, passages);
    return { sources, tokens: countMessage(passages) };
  }

  return {
    async build(request) {
      const { conversationId, fromId, model: requestedModel, userId, template } = request;
      const found = request.found ?? (await findContext(database, conversationId, userId, fromId));
      const { newest, ...setting } = requireRow(found, "conversation");
      const isGroup = setting.kind === "group";
      const path = walkPath(newest, (untilSeq) => listHistory(database, conversationId, untilSeq, isGroup));
      const model = requestedModel ?? setting.model ?? defaultModel;
      const chosen = template ?? setting.template;
      const isOwn = template !== undefined || (userId !== null && setting.prompt_owner_id === userId);
      const system: ChatMessage[] = [];
      if (chosen) system.push({ role: "system", content: renderPrompt(setting, model, chosen, isOwn) });
      if (isGroup) system.push({ role: "system", content: writeGroupNote() });

      const { inputTokens: tokensMax } = budgetOf(model);
      const passageTokensMax = setting.documents ? limitPassages(tokensMax) : 0;
      const systemTokens = countMessages(system);
      const room = tokensMax - systemTokens - passageTokensMax;
      const { newestFirst, summary, tokens, isCut } = await collectHistory(path, room);
      const messages = [...system, ...summary, ...newestFirst.reverse()];
      const passages = await addPassages(messages, passageTokensMax);
      return {
        model,
        messages,
        sources: passages.sources,
        inputTokens: systemTokens + tokens + passages.tokens,
        history: { tokens, tokensMax: room },
        isCut,
        isUntitled: setting.title === "" && setting.titled_by === null,
        tools: setting.tools,
        reasoningEffort: setting.reasoning_effort,
      };
    },

    async buildWithoutConversation(userId, template) {
      const asker = requireRow(await findRequester(database, userId), "user");
      const message: ChatMessage = { role: "system", content: renderPrompt(asker, defaultModel, template, true) };
      const inputTokens = countMessage(message);
      const history = { tokens: 0, tokensMax: 0 };
      const none = { sources: [], history, isCut: false, isUntitled: false, tools: false, reasoningEffort: null };
      return { model: defaultModel, messages: [message], inputTokens, ...none };
    },
  };
}
