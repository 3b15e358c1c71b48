import { isBareError, isErrorValue } from "../../error-fields.ts";
import type { ModelFinishReason, ProviderEnd } from "../../provider.ts";
import { createProviderError, mapErrorFields } from "../../provider-error.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { type EventMapper, isBlankData, type MappedEvent } from "../event-mapper.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";
import { createReasoningSeparator } from "../reasoning-separator.ts";
import { createToolCalls, readArguments } from "../tool-calls.ts";
import { createUsageCount } from "./count-usage.ts";
import { createBlockRecord } from "./thinking-blocks.ts";

type BlockKey = string | number;

/**
 * Reads the events of Anthropic's Messages API. The end marker is `message_stop`; the answer is complete once
 * `message_delta` gives a stop reason.
 * @param thinker the provider and model whose thinking is kept, because they need it back. Absent: none is kept.
 */
export function createMessagesMapper(thinker?: ThinkingSource): EventMapper {
  const blocks = createBlockRecord();
  const usage = createUsageCount();
  const calls = createToolCalls();
  /** The call being written at each index: some servers reuse an index. */
  const callKeys = new Map<BlockKey, string>();
  /** The whole input of a call, unless deltas follow. */
  const inputs = new Map<string, unknown>();
  const separateReasoning = createReasoningSeparator();
  let end: ProviderEnd | null = null;
  let lastKey: BlockKey = 0;
  let callCount = 0;
  let rest: MappedEvent[] = [];

  function several(events: MappedEvent[]): MappedEvent | null {
    rest = events;
    return rest.shift() ?? null;
  }

  function takeUsage(value: unknown): MappedEvent | null {
    usage.take(value);
    const counted = usage.read();
    return counted && { type: "usage", usage: counted };
  }

  function takeCall(key: BlockKey, { id, name, input }: Fields): MappedEvent {
    const callKey = `${callCount} at ${key}`;
    callCount += 1;
    callKeys.set(key, callKey);
    calls.add(callKey, { id, name, arguments: "" });
    if (Object.keys(readFields(input)).length > 0) inputs.set(callKey, input);
    return { type: "tool_call" };
  }

  function takeInput(key: BlockKey, input: unknown): MappedEvent {
    const callKey = callKeys.get(key);
    const piece = readArguments(input);
    if (callKey !== undefined && piece !== "") {
      inputs.delete(callKey);
      calls.add(callKey, { arguments: piece });
    }
    return { type: "tool_call" };
  }

  function takeReasoning(key: BlockKey, thinking: unknown): MappedEvent {
    return { type: "reasoning", text: separateReasoning(key, readText(thinking) ?? "") };
  }

  function takeBlock(key: BlockKey, block: Fields): MappedEvent | null {
    lastKey = key;
    blocks.begin(key, block);
    if (block.type === "tool_use") return takeCall(key, block);
    const text = block.type === "text" ? readText(block.text) : null;
    if (text !== null) return { type: "text", text };
    return block.type === "text" ? null : takeReasoning(key, block.thinking);
  }

  function takeDelta(key: BlockKey, delta: Fields): MappedEvent | null {
    blocks.add(key, delta);
    switch (delta.type) {
      case "text_delta": {
        const text = readText(delta.text);
        return text === null ? null : { type: "text", text };
      }
      case "input_json_delta":
        return takeInput(key, delta.partial_json);
      default:
        return takeReasoning(key, delta.thinking);
    }
  }

  /** Reads a message: a complete one, or the one that starts a stream. */
  function takeMessage(message: Fields): MappedEvent[] {
    const blocks = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content;
    const parts = readList(blocks).map((block, index) => takeBlock(`first ${index}`, readFields(block)));
    return [takeUsage(message.usage), ...parts].filter((part) => part !== null);
  }

  function takeStopReason(value: unknown): void {
    const reason = readText(value);
    if (reason === null || reason === "null") return;
    const known = stopReasons.get(reason.toLowerCase());
    const cause = `the answer stopped by ${reason}`;
    end = known
      ? { type: "finish", reason: known, usage: null }
      : { type: "error", error: createProviderError("provider_unavailable", cause) };
  }

  function finish(): ProviderEnd {
    const how: ProviderEnd = end ?? { type: "finish", reason: "stop", usage: null };
    if (how.type === "error") return how;
    for (const [key, input] of inputs) calls.add(key, { arguments: input });
    inputs.clear();
    const toolCalls = calls.list();
    const isWithoutCalls = how.reason === "tool_calls" && toolCalls.length === 0;
    const thinking = blocks.read(thinker);
    const counted = { type: how.type, reason: isWithoutCalls ? "stop" : how.reason, usage: usage.read() };
    // A call that was cut off must not be executed.
    if (how.reason === "length" || how.reason === "content_filter" || toolCalls.length === 0)
      return { ...counted, thinking };
    return { ...counted, reason: "tool_calls", toolCalls, thinking };
  }

  function mapWhole(document: unknown): MappedEvent[] {
    const message = readFields(document);
    if (message.content === undefined) return [];
    const parts = takeMessage(message);
    takeStopReason(message.stop_reason);
    return [...parts, finish()];
  }

  function mapEvent(type: unknown, event: Fields): MappedEvent | null {
    const key = typeof event.index === "number" || typeof event.index === "string" ? event.index : lastKey;
    switch (type) {
      case "content_block_delta":
        return takeDelta(key, readFields(event.delta));
      case "content_block_start":
        return takeBlock(key, readFields(event.content_block));
      case "message_start":
        return several(takeMessage(readFields(event.message)));
      case "message_delta":
        takeStopReason(readFields(event.delta).stop_reason);
        return takeUsage(event.usage);
      case "message_stop":
        return finish();
      case "message":
        return several(mapWhole(event));
      default:
        return isErrorValue(event) || (type === null && isBareError(event))
          ? { type: "error", error: mapErrorFields(event) }
          : null;
    }
  }

  return {
    map({ event: name, data }) {
      if (isBlankData(data)) return null;
      const event = readFields(JSON.parse(data));
      return mapEvent(readText(event.type) ?? name, event);
    },
    mapRest: () => rest.shift() ?? null,
    isEvent: (document) => eventTypePattern.test(readText(readFields(document).type) ?? ""),
    isComplete: () => end !== null,
    end: () => (end === null ? null : finish()),
    mapWhole,
  };
}

const eventTypePattern = /^(?:message_(?:start|delta|stop)|content_block_\w+|ping)$/;

/**
 * Anthropic's names, and those of other protocols that gateways forward. Any other reason is a failure, including
 * `pause_turn`, which requires repeating the request.
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
