import { extraFields } from "../../ai/extra-fields.ts";
import { checkAnswerFormat } from "../../ai/format/check-format.ts";
import type { AnswerFormat, AnswerOptions, ChatMessage, ToolChoice } from "../../ai/provider.ts";
import { formatPointer } from "../../lib/json.ts";
import { createInvalidProblem } from "../../lib/problem.ts";
import { formatRules, isUuid } from "../../lib/schema.ts";
import { isPlainText, normalizeText } from "../../lib/text.ts";
import { CONTENT_CHARS_MAX } from "../../protocol/frames.ts";
import type { CompletionMessage, CreateCompletion } from "./model.ts";
import { findSealedThinking } from "./thinking.ts";

export type CompletionRequest = {
  model: string;
  messages: ChatMessage[];
  /** Encrypted thinking of assistant messages, by message index. */
  sealedThinking: ReadonlyMap<number, string>;
  options: AnswerOptions;
  outputTokensMax: number | null;
  isStreamed: boolean;
  shouldIncludeUsage: boolean;
  /** The conversation in which to store the exchange; null if it is not stored. */
  conversationId: string | null;
  /** The text of the last message if it is a user message; otherwise null. */
  question: string | null;
};

/** Maps a request in OpenAI's format. @throws Problem `invalid` for errors that the schema can't detect. */
export function mapToCompletionRequest(body: CreateCompletion): CompletionRequest {
  const messages = body.messages.map(mapMessage);
  checkToolMessages(messages);
  const conversationId = parseConversationId(body.metadata);
  const lastMessage = messages.at(-1);
  const question = lastMessage?.role === "user" ? normalizeText(lastMessage.content) : null;
  if (conversationId !== null && question !== null)
    checkQuestion(question, `#/messages/${messages.length - 1}/content`);
  return {
    model: body.model,
    messages,
    sealedThinking: collectThinking(body.messages),
    options: mapOptions(body),
    outputTokensMax: body.max_completion_tokens ?? body.max_tokens ?? null,
    isStreamed: body.stream ?? false,
    shouldIncludeUsage: body.stream_options?.include_usage ?? false,
    conversationId,
    question,
  };
}

function collectThinking(messages: readonly CompletionMessage[]): Map<number, string> {
  const sealedByIndex = messages.map((message, index) => [index, findSealedThinking(message)] as const);
  return new Map(sealedByIndex.flatMap(([index, sealed]) => (sealed === null ? [] : [[index, sealed]])));
}

/** Checks the question against the limits for stored messages. */
function checkQuestion(question: string, pointer: string): void {
  if (question.trim() === "" || question.length > CONTENT_CHARS_MAX)
    throw createInvalidProblem(
      pointer,
      `${formatPointer(pointer)} must have 1 to ${CONTENT_CHARS_MAX} characters, because the message is stored.`,
    );
  if (!isPlainText(question)) throw createInvalidProblem(pointer, `${formatPointer(pointer)} ${formatRules.text}.`);
}

function mapMessage(message: CompletionMessage, index: number): ChatMessage {
  const content = getContent(message, index);
  switch (message.role) {
    case "user":
      return message.name === undefined ? { role: "user", content } : { role: "user", content, name: message.name };
    case "assistant": {
      const toolCalls = (message.tool_calls ?? []).map(({ id, function: call }) => ({ id, ...call }));
      return toolCalls.length > 0 ? { role: "assistant", content, toolCalls } : { role: "assistant", content };
    }
    case "tool":
      if (!message.tool_call_id)
        throw createInvalidProblem(
          `#/messages/${index}/tool_call_id`,
          `messages[${index}].tool_call_id is required: a tool message must name its call.`,
        );
      return { role: "tool", content, toolCallId: message.tool_call_id };
    default:
      return { role: "system", content };
  }
}

/** Returns a message's text. The text includes an assistant's refusal, because models have no separate field for refusals. */
function getContent(message: CompletionMessage, index: number): string {
  const { role, content } = message;
  const refusal = role === "assistant" ? (message.refusal ?? "") : "";
  if (content === undefined) {
    if (refusal !== "" || (role === "assistant" && message.tool_calls?.length)) return refusal;
    throw createInvalidProblem(
      `#/messages/${index}/content`,
      `messages[${index}].content is required, except in an assistant message with tool_calls or a refusal.`,
    );
  }
  const partTexts =
    typeof content === "string"
      ? [content]
      : content.map((part, partIndex) => getPartText(role, part, index, partIndex));
  return (refusal === "" ? partTexts : [...partTexts.filter((text) => text !== ""), refusal]).join("\n");
}

type ContentPart = Exclude<CompletionMessage["content"], string | undefined>[number];

function getPartText(role: string, { type, text, refusal }: ContentPart, index: number, partIndex: number): string {
  const isAssistant = role === "assistant";
  const isRefusal = isAssistant && type === "refusal";
  if (!isRefusal && type !== "text")
    throw createInvalidProblem(
      `#/messages/${index}/content/${partIndex}/type`,
      `messages[${index}].content[${partIndex}].type must be text${isAssistant ? " or refusal" : ""}: other parts are not supported.`,
    );
  const value = isRefusal ? refusal : text;
  if (value === undefined)
    throw createInvalidProblem(
      `#/messages/${index}/content/${partIndex}/${type}`,
      `messages[${index}].content[${partIndex}].${type} is required in a part of type ${type}.`,
    );
  return value;
}

/** Checks that tool results refer to calls in the preceding assistant message. */
function checkToolMessages(messages: readonly ChatMessage[]): void {
  let callIds = new Set<string>();
  for (const [index, message] of messages.entries()) {
    if (message.role === "assistant") callIds = new Set(message.toolCalls?.map(({ id }) => id));
    else if (message.role !== "tool") callIds.clear();
    else if (!callIds.delete(message.toolCallId))
      throw createInvalidProblem(
        `#/messages/${index}/role`,
        "A tool message must follow an assistant message with tool_calls and name one of them.",
      );
  }
}

function mapOptions(body: CreateCompletion): AnswerOptions {
  const allTools = (body.tools ?? []).map(({ function: { name, description, parameters, strict } }) => ({
    name,
    description: description ?? null,
    parameters: parameters ?? { type: "object", properties: {} },
    ...(typeof strict === "boolean" && { isStrict: strict }),
  }));
  const toolNames = new Set(allTools.map(({ name }) => name));
  if (toolNames.size < allTools.length) throw createInvalidProblem("#/tools", "Tool names must be unique.");
  const { toolChoice, allowedNames } = parseToolChoice(body.tool_choice, toolNames);
  const tools = allowedNames ? allTools.filter(({ name }) => allowedNames.has(name)) : allTools;
  if (toolChoice === "required" && tools.length === 0)
    throw createInvalidProblem("#/tool_choice", "A tool call can only be required if `tools` is not empty.");
  const stop = body.stop ?? [];
  return {
    tools,
    toolChoice,
    canCallToolsInParallel: body.parallel_tool_calls,
    temperature: body.temperature,
    topP: body.top_p,
    stop: typeof stop === "string" ? [stop] : stop,
    format: mapFormat(body.response_format),
    extra: Object.fromEntries(extraFields.map((field) => [field, body[field]])),
    reasoningEffort: body.reasoning_effort,
  };
}

/**
 * Parses the tool choice.
 * @param toolNames the names of the request's tools.
 * @returns `allowedNames` contains the tools that may be called; null allows all.
 */
function parseToolChoice(
  choice: CreateCompletion["tool_choice"],
  toolNames: ReadonlySet<string>,
): { toolChoice: ToolChoice | null; allowedNames: ReadonlySet<string> | null } {
  const requireTool = (name: string, pointer: string): string => {
    if (!toolNames.has(name)) throw createInvalidProblem(pointer, "`tools` has no tool with this name.");
    return name;
  };
  if (choice === undefined || typeof choice === "string") return { toolChoice: choice ?? null, allowedNames: null };
  if (choice.type === "function")
    return {
      toolChoice: { name: requireTool(choice.function.name, "#/tool_choice/function/name") },
      allowedNames: null,
    };
  const { mode, tools } = choice.allowed_tools;
  const allowed = tools.map((tool, index) =>
    requireTool(tool.function.name, `#/tool_choice/allowed_tools/tools/${index}/function/name`),
  );
  return { toolChoice: mode, allowedNames: new Set(allowed) };
}

/** Maps the required format of the answer. Returns null for text. */
function mapFormat(responseFormat: CreateCompletion["response_format"]): AnswerFormat | null {
  if (!responseFormat || responseFormat.type === "text") return null;
  if (responseFormat.type === "json_object") return { type: "json_object" };
  if (!responseFormat.json_schema)
    throw createInvalidProblem(
      "#/response_format/json_schema",
      "response_format.json_schema is required with this type.",
    );
  const { name, description, schema = {}, strict: isStrict } = responseFormat.json_schema;
  const format = { type: "json_schema", name, description, schema, isStrict } as const;
  checkAnswerFormat(format, "#/response_format/json_schema/schema");
  return format;
}

function parseConversationId(metadata: CreateCompletion["metadata"]): string | null {
  const id = metadata?.conversation_id ?? null;
  if (id === null) return null;
  if (typeof id !== "string" || !isUuid(id))
    throw createInvalidProblem("#/metadata/conversation_id", "metadata.conversation_id must be a UUID.");
  return id.toLowerCase();
}
