import type { ModelFinishReason, ProviderEnd, ReportedUsage } from "../../provider.ts";
import { createProviderError, mapErrorFields } from "../../provider-error.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { mergeReports } from "../../usage.ts";
import type { EventMapper, MappedEvent } from "../event-mapper.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";
import { createChatRecord } from "./chat-thinking.ts";
import { findFailure } from "./find-failure.ts";
import { readFinishReason } from "./finish-reasons.ts";
import { ToolCallJoiner } from "./join-tool-calls.ts";
import { readChatUsage } from "./read-chat-usage.ts";
import { type Content, readDelta } from "./read-delta.ts";

/**
 * Reads the chunks of Chat Completions. An answer ends with its `finish_reason`, or with `[DONE]` if the server sends no
 * reason: either confirms that it is complete. A stream with neither has failed. A missing `[DONE]` after a `finish_reason`
 * loses no text, and a second model would only add to a complete answer.
 * @param thinker the provider and model whose thinking is kept, because they need it back. Absent: none is kept.
 */
export function createChatMapper(thinker?: ThinkingSource): EventMapper {
  const chunks = new ChunkReader(thinker);
  // Remaining parts of the last event: reasoning, text and a call may share a chunk.
  let rest: MappedEvent[] = [];
  return {
    map({ data }) {
      const text = data.trim();
      if (text === "[DONE]") return chunks.finish();
      // Some servers send empty events as keep-alives.
      if (text === "") return null;
      const chunk: unknown = JSON.parse(text);
      // Google wraps its errors in an array.
      const parts = chunks.read(readFields(Array.isArray(chunk) ? chunk[0] : chunk));
      const first = parts.shift() ?? null;
      rest = parts;
      return first;
    },
    mapRest: () => rest.shift() ?? null,
    mapWhole: (document) => chunks.readWhole(readFields(document)),
    isEvent: isChunk,
    isComplete: () => chunks.isComplete,
    end: () => (chunks.isComplete ? chunks.finish() : null),
  };
}

/** A chunk has a delta where a completion has a message. */
function isChunk(document: unknown): boolean {
  const { object, choices } = readFields(document);
  const choice = readFields(readList(choices)[0]);
  return choice.message === undefined && (choice.delta !== undefined || object === "chat.completion.chunk");
}

class ChunkReader {
  readonly #thinker: ThinkingSource | undefined;
  readonly #record = createChatRecord();
  #reason: ModelFinishReason | null = null;
  #usage: ReportedUsage | null = null;
  readonly #calls = new ToolCallJoiner();
  #hasText = false;
  #hasReasoning = false;
  #hasCalls = false;
  /** The text of messages so far: some servers send messages instead of deltas. */
  #messageText = "";

  constructor(thinker: ThinkingSource | undefined) {
    this.#thinker = thinker;
  }

  /** Nothing after the finish reason can make the answer incomplete. */
  get isComplete(): boolean {
    return this.#reason !== null;
  }

  /** Returns the parts of a chunk, in order. */
  read(chunk: Fields): MappedEvent[] {
    const choice = readFields(readList(chunk.choices)[0]);
    const failure = findFailure(chunk, choice);
    if (failure) return [{ type: "error", error: mapErrorFields(failure) }];
    const usage = this.#takeUsage(chunk, choice);
    const parts = this.#mapContent(this.#readContent(choice));
    const reason = readFinishReason(choice.finish_reason);
    if (reason === "unknown" && !this.isComplete) parts.push(mapUnknownEnd(choice.finish_reason));
    else if (reason !== null && reason !== "unknown") this.#reason = reason;
    // In case the stream breaks; the end repeats it.
    if (usage && !this.isComplete) parts.unshift({ type: "usage", usage });
    return parts;
  }

  /**
   * Reads a document with choices, which is complete even without a finish reason. A delta without one is not: it is the
   * first of many that a server sends line by line.
   */
  readWhole(document: Fields): MappedEvent[] {
    const choice = readFields(readList(document.choices)[0]);
    const isPiece = choice.delta !== undefined && !choice.message && readFinishReason(choice.finish_reason) === null;
    if (readList(document.choices).length === 0 || isPiece) return [];
    const parts = this.read(document);
    return parts.at(-1)?.type === "error" ? parts : [...parts, this.finish()];
  }

  /** Ends the answer. If it was cut off during a call, its calls are dropped: they must not be executed. */
  finish(): ProviderEnd {
    const reason = this.#reason ?? "stop";
    const usage = this.#usage;
    const calls = reason === "length" || reason === "content_filter" ? [] : this.#calls.listWithExtras();
    const toolCalls = calls.map(({ call }) => call);
    const thinking = this.#record.read(this.#thinker, calls);
    if (toolCalls.length > 0) return { type: "finish", reason: "tool_calls", usage, toolCalls, thinking };
    return { type: "finish", reason: reason === "tool_calls" ? "stop" : reason, usage, thinking };
  }

  #takeUsage(chunk: Fields, choice: Fields): ReportedUsage | null {
    const usage = readChatUsage(chunk, choice);
    this.#usage = mergeReports(this.#usage, usage);
    return usage && this.#usage;
  }

  /** Reads the content of a choice: its delta, and the parts of a message that no delta has sent. */
  #readContent(choice: Fields): Content {
    const content = readDelta(readFields(choice.delta), choice.text);
    this.#record.add(readFields(choice.delta));
    this.#hasText ||= content.text !== "";
    this.#hasReasoning ||= content.reasoning !== null;
    this.#hasCalls ||= content.calls.length > 0;
    if (!choice.message) return content;
    const message = readDelta(readFields(choice.message));
    if (!this.#hasReasoning) this.#record.add(readFields(choice.message));
    return {
      text: this.#hasText ? content.text : this.#readNewText(message.text),
      reasoning: this.#hasReasoning ? content.reasoning : message.reasoning,
      calls: this.#hasCalls ? content.calls : message.calls,
    };
  }

  /** Returns the new text of a message: some servers repeat the text so far in each one. */
  #readNewText(text: string): string {
    const isRepeated = text.startsWith(this.#messageText);
    const added = isRepeated ? text.slice(this.#messageText.length) : text;
    this.#messageText += added;
    return added;
  }

  #mapContent({ text, reasoning, calls }: Content): MappedEvent[] {
    const parts: MappedEvent[] = [];
    if (reasoning !== null) parts.push({ type: "reasoning", text: reasoning });
    if (text !== "") parts.push({ type: "text", text });
    if (calls.length > 0 && this.#calls.add(calls)) parts.push({ type: "tool_call" });
    return parts;
  }
}

const mapUnknownEnd = (reason: unknown): ProviderEnd => ({
  type: "error",
  error: createProviderError("provider_unavailable", `the answer ended with ${readText(reason)}`),
});
