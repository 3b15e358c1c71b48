import { isBareError, isErrorValue } from "../../error-fields.ts";
import type { ModelFinishReason, ProviderEnd } from "../../provider.ts";
import { createProviderError, mapErrorFields } from "../../provider-error.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { type EventMapper, isBlankData, type MappedEvent } from "../event-mapper.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";
import { createReasoningSeparator } from "../reasoning-separator.ts";
import { createToolCallStore, toArgumentsText } from "../tool-calls.ts";
import { createUsageCounter } from "./count-usage.ts";
import { createBlockRecord } from "./thinking-blocks.ts";

type BlockKey = string | number;

/**
 * Creates a mapper for the events of Anthropic's Messages API. The end marker is `message_stop`, but the answer is already
 * complete when `message_delta` contains a stop reason.
 * @param thinkingSource the provider and model to which thinking is sent back. If undefined, thinking isn't stored.
 */
export function createMessagesMapper(thinkingSource?: ThinkingSource): EventMapper {
  const blocks = createBlockRecord();
  const usage = createUsageCounter();
  const calls = createToolCallStore();
  /** The current call at each index. Some servers reuse an index. */
  const callKeys = new Map<BlockKey, string>();
  /** Inputs from the start of calls. An input is removed if deltas follow; otherwise, it is complete. */
  const inputs = new Map<string, unknown>();
  const separateReasoning = createReasoningSeparator();
  let end: ProviderEnd | null = null;
  let lastKey: BlockKey = 0;
  let callCount = 0;
  let pendingParts: MappedEvent[] = [];

  /** Returns the first event and queues the others. */
  function shiftAndQueue(events: MappedEvent[]): MappedEvent | null {
    pendingParts = events;
    return pendingParts.shift() ?? null;
  }

  function mapUsage(value: unknown): MappedEvent | null {
    usage.add(value);
    const counts = usage.getUsage();
    return counts && { type: "usage", usage: counts };
  }

  function startCall(key: BlockKey, { id, name, input }: Fields): MappedEvent {
    const callKey = `${callCount} at ${key}`;
    callCount += 1;
    callKeys.set(key, callKey);
    calls.add(callKey, { id, name, arguments: "" });
    if (Object.keys(asFields(input)).length > 0) inputs.set(callKey, input);
    return { type: "tool_call" };
  }

  function addInput(key: BlockKey, input: unknown): MappedEvent {
    const callKey = callKeys.get(key);
    const argumentsText = toArgumentsText(input);
    if (callKey !== undefined && argumentsText !== "") {
      inputs.delete(callKey);
      calls.add(callKey, { arguments: argumentsText });
    }
    return { type: "tool_call" };
  }

  function mapReasoning(key: BlockKey, thinking: unknown): MappedEvent {
    return { type: "reasoning", text: separateReasoning(key, asNonEmptyString(thinking) ?? "") };
  }

  function startBlock(key: BlockKey, block: Fields): MappedEvent | null {
    lastKey = key;
    blocks.startBlock(key, block);
    if (block.type === "tool_use") return startCall(key, block);
    const text = block.type === "text" ? asNonEmptyString(block.text) : null;
    if (text !== null) return { type: "text", text };
    return block.type === "text" ? null : mapReasoning(key, block.thinking);
  }

  function mapDelta(key: BlockKey, delta: Fields): MappedEvent | null {
    blocks.add(key, delta);
    switch (delta.type) {
      case "text_delta": {
        const text = asNonEmptyString(delta.text);
        return text === null ? null : { type: "text", text };
      }
      case "input_json_delta":
        return addInput(key, delta.partial_json);
      default:
        return mapReasoning(key, delta.thinking);
    }
  }

  /** Maps a complete message, or the message at the start of a stream. */
  function mapMessage(message: Fields): MappedEvent[] {
    const blocks = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
    const parts = asList(blocks).map((block, index) => startBlock(`first ${index}`, asFields(block)));
    return [mapUsage(message.usage), ...parts].filter((part) => part !== null);
  }

  function recordStopReason(value: unknown): void {
    const reason = asNonEmptyString(value);
    if (reason === null || reason === "null") return;
    const finishReason = stopReasons.get(reason.toLowerCase());
    const cause = `the answer ended with the stop reason ${reason}`;
    end = finishReason
      ? { type: "finish", reason: finishReason, usage: null }
      : { type: "error", error: createProviderError("provider_unavailable", cause) };
  }

  function finish(): ProviderEnd {
    const finalEnd: ProviderEnd = end ?? { type: "finish", reason: "stop", usage: null };
    if (finalEnd.type === "error") return finalEnd;
    for (const [key, input] of inputs) calls.add(key, { arguments: input });
    inputs.clear();
    const toolCalls = calls.list();
    const hasNoCalls = finalEnd.reason === "tool_calls" && toolCalls.length === 0;
    const thinking = blocks.buildThinking(thinkingSource);
    const result = { type: finalEnd.type, reason: hasNoCalls ? "stop" : finalEnd.reason, usage: usage.getUsage() };
    // The last call may be incomplete, so no call may be executed.
    if (finalEnd.reason === "length" || finalEnd.reason === "content_filter" || toolCalls.length === 0)
      return { ...result, thinking };
    return { ...result, reason: "tool_calls", toolCalls, thinking };
  }

  function mapDocument(document: unknown): MappedEvent[] {
    const message = asFields(document);
    if (message.content === undefined) return [];
    const parts = mapMessage(message);
    recordStopReason(message.stop_reason);
    return [...parts, finish()];
  }

  function mapEvent(type: unknown, event: Fields): MappedEvent | null {
    const key = typeof event.index === "number" || typeof event.index === "string" ? event.index : lastKey;
    switch (type) {
      case "content_block_delta":
        return mapDelta(key, asFields(event.delta));
      case "content_block_start":
        return startBlock(key, asFields(event.content_block));
      case "message_start":
        return shiftAndQueue(mapMessage(asFields(event.message)));
      case "message_delta":
        recordStopReason(asFields(event.delta).stop_reason);
        return mapUsage(event.usage);
      case "message_stop":
        return finish();
      case "message":
        return shiftAndQueue(mapDocument(event));
      default:
        return isErrorValue(event) || (type === null && isBareError(event))
          ? { type: "error", error: mapErrorFields(event) }
          : null;
    }
  }

  return {
    map({ event: name, data }) {
      if (isBlankData(data)) return null;
      const event = asFields(JSON.parse(data));
      return mapEvent(asNonEmptyString(event.type) ?? name, event);
    },
    mapNext: () => pendingParts.shift() ?? null,
    isEvent: (document) => eventTypePattern.test(asNonEmptyString(asFields(document).type) ?? ""),
    isComplete: () => end !== null,
    end: () => (end === null ? null : finish()),
    mapDocument,
  };
}

const eventTypePattern = /^(?:message_(?:start|delta|stop)|content_block_\w+|ping)$/;

/**
 * Anthropic's stop reasons, and those of other protocols, which some gateways forward. All unlisted reasons are failures,
 * including `pause_turn`, after which the request would have to be repeated.
 */
const stopReasons: ReadonlyMap<string, ModelFinishReason> = new Map([
  ["end_turn", "stop"],
  ["stop_sequence", "stop"],
  ["stop", "stop"],
  ["max_tokens", "length"],
  ["model_context_window_exceeded", "length"],
  ["length", "length"],
  ["tool_use", "tool_calls"],
  ["tool_calls", "tool_calls"],
  ["refusal", "content_filter"],
  ["content_filter", "content_filter"],
]);
