import type { ModelFinishReason, ProviderEnd, ReportedUsage } from "../../provider.ts";
import { createProviderError, mapErrorFields } from "../../provider-error.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { mergeUsageReports } from "../../usage.ts";
import type { EventMapper, MappedEvent } from "../event-mapper.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";
import { ToolCallAssembler } from "./assemble-tool-calls.ts";
import { createThinkingRecord } from "./chat-thinking.ts";
import { findChunkError } from "./find-failure.ts";
import { parseFinishReason } from "./finish-reasons.ts";
import { type DeltaContent, parseDelta } from "./parse-delta.ts";
import { parseChatUsage } from "./parse-usage.ts";

/**
 * Creates a mapper for Chat Completions chunks. An answer is complete after its `finish_reason`, or after `[DONE]` if the
 * server sends no reason. A stream without either has failed.
 * @param thinkingSource the provider and model to which thinking is sent back. If undefined, thinking isn't stored.
 */
export function createChatMapper(thinkingSource?: ThinkingSource): EventMapper {
  const chunkMapper = new ChunkMapper(thinkingSource);
  // One chunk may contain reasoning, text and calls.
  let pendingParts: MappedEvent[] = [];
  return {
    map({ data }) {
      const text = data.trim();
      if (text === "[DONE]") return chunkMapper.finish();
      // Some servers send empty events as keep-alives.
      if (text === "") return null;
      const chunk: unknown = JSON.parse(text);
      // Google wraps its errors in an array.
      const parts = chunkMapper.mapChunk(asFields(Array.isArray(chunk) ? chunk[0] : chunk));
      const firstPart = parts.shift() ?? null;
      pendingParts = parts;
      return firstPart;
    },
    mapNext: () => pendingParts.shift() ?? null,
    mapDocument: (document) => chunkMapper.mapDocument(asFields(document)),
    isEvent: isChunk,
    isComplete: () => chunkMapper.isComplete,
    end: () => (chunkMapper.isComplete ? chunkMapper.finish() : null),
  };
}

/** Whether a document is a chunk rather than a completion. A chunk has a `delta`, and a completion has a `message`. */
function isChunk(document: unknown): boolean {
  const { object, choices } = asFields(document);
  const choice = asFields(asList(choices)[0]);
  return choice.message === undefined && (choice.delta !== undefined || object === "chat.completion.chunk");
}

class ChunkMapper {
  readonly #thinkingSource: ThinkingSource | undefined;
  readonly #thinkingRecord = createThinkingRecord();
  #reason: ModelFinishReason | null = null;
  #usage: ReportedUsage | null = null;
  readonly #calls = new ToolCallAssembler();
  #hasText = false;
  #hasReasoning = false;
  #hasCalls = false;
  /** The text of all messages. Some servers send messages instead of deltas. */
  #messageText = "";

  constructor(thinkingSource: ThinkingSource | undefined) {
    this.#thinkingSource = thinkingSource;
  }

  get isComplete(): boolean {
    return this.#reason !== null;
  }

  /** Returns the parts of a chunk, in order. */
  mapChunk(chunk: Fields): MappedEvent[] {
    const choice = asFields(asList(chunk.choices)[0]);
    const failure = findChunkError(chunk, choice);
    if (failure) return [{ type: "error", error: mapErrorFields(failure) }];
    const usage = this.#recordUsage(chunk, choice);
    const parts = this.#mapContent(this.#collectContent(choice));
    const reason = parseFinishReason(choice.finish_reason);
    if (reason === "unknown" && !this.isComplete) parts.push(createUnknownReasonError(choice.finish_reason));
    else if (reason !== null && reason !== "unknown") this.#reason = reason;
    // The answer's end also contains the usage, but the stream may break off before the end.
    if (usage && !this.isComplete) parts.unshift({ type: "usage", usage });
    return parts;
  }

  /**
   * Returns the parts of a document with choices, which is complete even without a finish reason. Returns no parts for a delta
   * without a finish reason, because a server that sends JSON lines will send more deltas.
   */
  mapDocument(document: Fields): MappedEvent[] {
    const choice = asFields(asList(document.choices)[0]);
    const isIncompleteDelta =
      choice.delta !== undefined && !choice.message && parseFinishReason(choice.finish_reason) === null;
    if (asList(document.choices).length === 0 || isIncompleteDelta) return [];
    const parts = this.mapChunk(document);
    return parts.at(-1)?.type === "error" ? parts : [...parts, this.finish()];
  }

  /** Returns the answer's end. If the answer was cut off, the last call may be incomplete, so all calls are dropped. */
  finish(): ProviderEnd {
    const reason = this.#reason ?? "stop";
    const usage = this.#usage;
    const calls = reason === "length" || reason === "content_filter" ? [] : this.#calls.listWithExtras();
    const toolCalls = calls.map(({ call }) => call);
    const thinking = this.#thinkingRecord.buildThinking(this.#thinkingSource, calls);
    if (toolCalls.length > 0) return { type: "finish", reason: "tool_calls", usage, toolCalls, thinking };
    return { type: "finish", reason: reason === "tool_calls" ? "stop" : reason, usage, thinking };
  }

  #recordUsage(chunk: Fields, choice: Fields): ReportedUsage | null {
    const usage = parseChatUsage(chunk, choice);
    this.#usage = mergeUsageReports(this.#usage, usage);
    return usage && this.#usage;
  }

  /** Returns the content of a choice's delta and message. Content that deltas have already sent is omitted. */
  #collectContent(choice: Fields): DeltaContent {
    const content = parseDelta(asFields(choice.delta), choice.text);
    this.#thinkingRecord.add(asFields(choice.delta));
    this.#hasText ||= content.text !== "";
    this.#hasReasoning ||= content.reasoning !== null;
    this.#hasCalls ||= content.calls.length > 0;
    if (!choice.message) return content;
    const message = parseDelta(asFields(choice.message));
    if (!this.#hasReasoning) this.#thinkingRecord.add(asFields(choice.message));
    return {
      text: this.#hasText ? content.text : this.#removeRepeatedText(message.text),
      reasoning: this.#hasReasoning ? content.reasoning : message.reasoning,
      calls: this.#hasCalls ? content.calls : message.calls,
    };
  }

  /** Returns the new text of a message. Some servers repeat the previous text in each message. */
  #removeRepeatedText(text: string): string {
    const isRepetition = text.startsWith(this.#messageText);
    const newText = isRepetition ? text.slice(this.#messageText.length) : text;
    this.#messageText += newText;
    return newText;
  }

  #mapContent({ text, reasoning, calls }: DeltaContent): MappedEvent[] {
    const parts: MappedEvent[] = [];
    if (reasoning !== null) parts.push({ type: "reasoning", text: reasoning });
    if (text !== "") parts.push({ type: "text", text });
    if (calls.length > 0 && this.#calls.add(calls)) parts.push({ type: "tool_call" });
    return parts;
  }
}

const createUnknownReasonError = (reason: unknown): ProviderEnd => ({
  type: "error",
  error: createProviderError("provider_unavailable", `the answer ended with ${asNonEmptyString(reason)}`),
});
