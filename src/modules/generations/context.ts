import type { GetBudget } from "../../ai/models.ts";
import type { ChatMessage } from "../../ai/provider.ts";
import { estimateMessageTokens, estimateTotalTokens } from "../../ai/tokens.ts";
import { type Database, requireRow } from "../../db/client.ts";
import type { ReasoningEffort } from "../../protocol/reasoning-effort.ts";
import type { PassageMatch } from "../documents/service.ts";
import { createVariables, renderTemplate } from "../prompts/service.ts";
import { type ContextData, type ContextSettings, findContext, findRequester, listHistory } from "./context-queries.ts";
import { formatGroupNote, formatPassages, getPassageTokensMax, type Source } from "./context-texts.ts";
import { collectHistory } from "./history.ts";
import { readPath } from "./path.ts";

/** Maximum number of document passages per answer. */
const CONTEXT_PASSAGES_MAX = 5;

type ContextRequest = {
  conversationId: string;
  /** The newest message to include, together with its ancestors. Null means the conversation's newest message. */
  fromId: string | null;
  /** The model to try first. Null means the conversation's model or, if it has none, the default. */
  model: string | null;
  /** The user who requested the answer. */
  userId: string | null;
  /** Replaces the conversation's prompt. It belongs to the user who requested the answer. */
  template?: string;
  /** The context's data, if it was already read when the question was committed. */
  contextData?: ContextData | undefined;
};

export type Context = {
  model: string;
  messages: ChatMessage[];
  /** Documents whose passages are included. */
  sources: Source[];
  /** The estimated number of tokens in all messages. */
  inputTokens: number;
  /** The number of tokens in the conversation's messages and summary, and its limit. */
  history: { tokens: number; tokensMax: number };
  /** Whether messages were omitted without being in a summary. */
  isTruncated: boolean;
  /** Whether the conversation's title is still unset. */
  isUntitled: boolean;
  /** The tools that the model may call: all, none, or these names. */
  tools: boolean | readonly string[];
  /** The conversation's reasoning effort, or null if it isn't set. */
  reasoningEffort: ReasoningEffort | null;
};

export type ContextDependencies = {
  database: Database;
  getBudget: GetBudget;
  defaultModel: string;
  searchPassages(question: string, limit: number): Promise<PassageMatch[]>;
};

/** Builds the input of a model, for answers and previews. */
export interface ContextBuilder {
  /** Builds a context. The caller must have checked access. @throws Problem `not_found` if the conversation was deleted. */
  build(request: ContextRequest): Promise<Context>;

  /** Renders a prompt without a conversation, for its owner. @throws Problem `not_found`. */
  buildWithoutConversation(userId: string, template: string): Promise<Context>;
}

export function createContextBuilder({
  database,
  getBudget,
  defaultModel,
  searchPassages,
}: ContextDependencies): ContextBuilder {
  /** Renders a prompt. It can use only its author's preferences, not other users'. */
  function renderPrompt(
    settings: Partial<ContextSettings>,
    model: string,
    template: string,
    isAuthor: boolean,
  ): string {
    const { user_id, display_name, preferences, id, title = "", kind = "direct" } = settings;
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
   * Inserts document passages right before the question, not at the start. The messages before them stay the same in later answers, so
   * providers can cache them.
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
    return { sources, tokens: estimateMessageTokens(passages) };
  }

  return {
    async build(request) {
      const { conversationId, fromId, model: requestedModel, userId, template } = request;
      const found = request.contextData ?? (await findContext(database, conversationId, userId, fromId));
      const { newest: newestRows, ...settings } = requireRow(found, "conversation");
      const isGroup = settings.kind === "group";
      const path = readPath(newestRows, (untilSeq) => listHistory(database, conversationId, untilSeq, isGroup));
      const model = requestedModel ?? settings.model ?? defaultModel;
      const promptTemplate = template ?? settings.template;
      const isAuthor = template !== undefined || (userId !== null && settings.prompt_owner_id === userId);
      const system: ChatMessage[] = [];
      if (promptTemplate)
        system.push({ role: "system", content: renderPrompt(settings, model, promptTemplate, isAuthor) });
      if (isGroup) system.push({ role: "system", content: formatGroupNote() });

      const { inputTokens: tokensMax } = getBudget(model);
      const passageTokensMax = settings.documents ? getPassageTokensMax(tokensMax) : 0;
      const systemTokens = estimateTotalTokens(system);
      const historyTokensMax = tokensMax - systemTokens - passageTokensMax;
      const { newestFirst, summary, tokens, isTruncated } = await collectHistory(path, historyTokensMax);
      const messages = [...system, ...summary, ...newestFirst.reverse()];
      const passages = await addPassages(messages, passageTokensMax);
      return {
        model,
        messages,
        sources: passages.sources,
        inputTokens: systemTokens + tokens + passages.tokens,
        history: { tokens, tokensMax: historyTokensMax },
        isTruncated,
        isUntitled: settings.title === "" && settings.titled_by === null,
        tools: settings.tools,
        reasoningEffort: settings.reasoning_effort,
      };
    },

    async buildWithoutConversation(userId, template) {
      const requester = requireRow(await findRequester(database, userId), "user");
      const message: ChatMessage = { role: "system", content: renderPrompt(requester, defaultModel, template, true) };
      const inputTokens = estimateMessageTokens(message);
      const history = { tokens: 0, tokensMax: 0 };
      const emptyFields = {
        sources: [],
        history,
        isTruncated: false,
        isUntitled: false,
        tools: false,
        reasoningEffort: null,
      };
      return { model: defaultModel, messages: [message], inputTokens, ...emptyFields };
    },
  };
}
