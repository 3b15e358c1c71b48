import type { BudgetOf } from "../../ai/models.ts";
import type { ChatMessage } from "../../ai/provider.ts";
import { countMessage, countMessages } from "../../ai/tokens.ts";
import { type Database, requireRow } from "../../db/client.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { FoundPassage } from "../documents/service.ts";
import { createVariables, renderTemplate } from "../prompts/service.ts";
import { type ContextSetting, type FoundContext, findContext, findRequester, listHistory } from "./context-queries.ts";
import { formatGroupNote, formatPassages, limitPassages, type Source } from "./context-texts.ts";
import { collectHistory } from "./history.ts";
import { walkPath } from "./path.ts";

/** Maximum document passages per answer. */
const CONTEXT_PASSAGES_MAX = 5;

type ContextRequest = {
  conversationId: string;
  /** The newest message to include, after its ancestors; null for the conversation's newest message. */
  fromId: string | null;
  /** The model to try first; null for the conversation's model, or else the default. */
  model: string | null;
  /** The user who requested the answer. */
  userId: string | null;
  /** Replaces the conversation's prompt; belongs to the user who requested the answer. */
  template?: string;
  /** Data that was read when the question was committed; if absent, it is read now. */
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
  /** The conversation's reasoning effort; null if it isn't set. */
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
  /** Builds a context. The caller must have checked access. @throws Problem `not_found` if the conversation is gone. */
  build(request: ContextRequest): Promise<Context>;

  /** Renders a prompt without a conversation, as its owner would see it. @throws Problem `not_found`. */
  buildWithoutConversation(userId: string, template: string): Promise<Context>;
}

export function createContexts({ database, budgetOf, defaultModel, searchPassages }: ContextDependencies): Contexts {
  /** Renders a prompt. It may only use its author's preferences, not other users' preferences. */
  function renderPrompt(setting: Partial<ContextSetting>, model: string, template: string, isAuthor: boolean): string {
    const { user_id, display_name, preferences, id, title = "", kind = "direct" } = setting;
    const variables = createVariables({
      user: user_id ? { id: user_id, display_name: display_name ?? "" } : null,
      preferences: isAuthor ? (preferences ?? {}) : {},
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
    const { text, sources } = formatPassages(await searchPassages(question, CONTEXT_PASSAGES_MAX), tokensMax);
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
      const promptTemplate = template ?? setting.template;
      const isAuthor = template !== undefined || (userId !== null && setting.prompt_owner_id === userId);
      const system: ChatMessage[] = [];
      if (promptTemplate)
        system.push({ role: "system", content: renderPrompt(setting, model, promptTemplate, isAuthor) });
      if (isGroup) system.push({ role: "system", content: formatGroupNote() });

      const { inputTokens: tokensMax } = budgetOf(model);
      const passageTokensMax = setting.documents ? limitPassages(tokensMax) : 0;
      const systemTokens = countMessages(system);
      const historyTokensMax = tokensMax - systemTokens - passageTokensMax;
      const { newestFirst, summary, tokens, isCut } = await collectHistory(path, historyTokensMax);
      const messages = [...system, ...summary, ...newestFirst.reverse()];
      const passages = await addPassages(messages, passageTokensMax);
      return {
        model,
        messages,
        sources: passages.sources,
        inputTokens: systemTokens + tokens + passages.tokens,
        history: { tokens, tokensMax: historyTokensMax },
        isCut,
        isUntitled: setting.title === "" && setting.titled_by === null,
        tools: setting.tools,
        reasoningEffort: setting.reasoning_effort,
      };
    },

    async buildWithoutConversation(userId, template) {
      const requester = requireRow(await findRequester(database, userId), "user");
      const message: ChatMessage = { role: "system", content: renderPrompt(requester, defaultModel, template, true) };
      const inputTokens = countMessage(message);
      const history = { tokens: 0, tokensMax: 0 };
      const none = { sources: [], history, isCut: false, isUntitled: false, tools: false, reasoningEffort: null };
      return { model: defaultModel, messages: [message], inputTokens, ...none };
    },
  };
}
