import { isBareError, isErrorValue } from "../../error-fields.ts";
import { mapErrorFields } from "../../provider-error.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { type EventMapper, isBlankData, type MappedEvent } from "../event-mapper.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";
import { createReasoningSeparator } from "../reasoning-separator.ts";
import { createOutputTextTracker } from "./output-texts.ts";
import { createToolCallCollector } from "./response-calls.ts";
import { findResponseEnd, mapUsage } from "./response-end.ts";
import { createItemRecord } from "./response-thinking.ts";

/**
 * Creates a mapper for the events of OpenAI's Responses API, which end with `response.completed` or `response.incomplete`.
 * Text and calls that weren't sent in deltas are taken from the end of their item or from the last event.
 * @param thinkingSource the provider and model to which thinking is sent back. If undefined, thinking isn't stored.
 */
export function createResponsesMapper(thinkingSource?: ThinkingSource): EventMapper {
  const itemRecord = createItemRecord();
  const textTracker = createOutputTextTracker();
  const calls = createToolCallCollector();
  const separateReasoning = createReasoningSeparator();
  let hasReasoning = false;
  let pendingParts: MappedEvent[] = [];

  /** Returns the first event and queues the others. */
  function shiftAndQueue(events: MappedEvent[]): MappedEvent | null {
    pendingParts = events;
    return pendingParts.shift() ?? null;
  }

  function mapDelta(event: Fields): MappedEvent | null {
    const text = asNonEmptyString(event.delta);
    if (text === null) return null;
    textTracker.add(event.output_index, event.content_index, text);
    return { type: "text", text };
  }

  /** @param position the indexes of the item and its part. */
  function mapReasoning(value: unknown, ...position: unknown[]): MappedEvent {
    const text = asNonEmptyString(value) ?? "";
    if (text !== "") hasReasoning = true;
    return { type: "reasoning", text: separateReasoning(JSON.stringify(position), text) };
  }

  /** Maps a part of a message. A refusal is shown to the reader as text. */
  function mapPart(output: unknown, content: unknown, part: Fields): MappedEvent[] {
    const completeText = asNonEmptyString(part.text) ?? asNonEmptyString(part.refusal);
    const text = completeText === null ? null : textTracker.addComplete(output, content, completeText);
    return text === null ? [] : [{ type: "text", text }];
  }

  /** Maps a complete item. @param itemIndex may differ between the item's own event and the last event. */
  function mapItem(itemIndex: unknown, item: Fields): MappedEvent[] {
    switch (item.type) {
      case "reasoning": {
        if (hasReasoning) return [];
        const parts = [...asList(item.summary), ...asList(item.content)];
        return parts.map((part, index) => mapReasoning(asFields(part).text, itemIndex, index));
      }
      case "message":
        if (typeof item.content === "string") return mapPart(itemIndex, 0, { text: item.content });
        return asList(item.content).flatMap((part, index) => mapPart(itemIndex, index, asFields(part)));
      default:
        return [];
    }
  }

  function startItem(event: Fields): MappedEvent | null {
    const item = asFields(event.item);
    if (isCall(item)) calls.startCall(event);
    return mapItemStart(item.type);
  }

  function finishItem(event: Fields): MappedEvent | null {
    const item = asFields(event.item);
    itemRecord.add(item);
    if (!isCall(item)) return shiftAndQueue(mapItem(event.output_index, item));
    calls.finishCall(event);
    return toolCallEvent;
  }

  function mapOutput(output: unknown): MappedEvent[] {
    // If any text was streamed, the last event repeats it, possibly at other positions.
    const isTextNew = textTracker.isEmpty();
    const items = asList(output).map(asFields);
    const callItems = items.filter(isCall);
    calls.addRemaining(callItems);
    itemRecord.addOutput(items);
    const parts = items.flatMap((item, index) => (item.type === "message" && !isTextNew ? [] : mapItem(index, item)));
    return callItems.length > 0 ? [...parts, toolCallEvent] : parts;
  }

  /** Maps the response in the last event or in a document. @param impliedStatus the status that the event's name implies. */
  function mapResponse(response: Fields, impliedStatus: string | null): MappedEvent[] {
    const usage = mapUsage(response.usage);
    const end = findResponseEnd(response, impliedStatus);
    if (typeof end !== "string") {
      const { error } = end;
      return usage
        ? [
            { type: "usage", usage },
            { type: "error", error },
          ]
        : [{ type: "error", error }];
    }
    const parts = mapOutput(response.output);
    // Some servers send an empty output and the text in `output_text`.
    if (textTracker.isEmpty()) parts.push(...mapPart(0, 0, { text: response.output_text }));
    const toolCalls = calls.list();
    const thinking = itemRecord.buildThinking(thinkingSource);
    if (end !== "stop" || toolCalls.length === 0) return [...parts, { type: "finish", reason: end, usage, thinking }];
    return [...parts, { type: "finish", reason: "tool_calls", usage, toolCalls, thinking }];
  }

  function mapDocument(document: unknown): MappedEvent[] {
    const response = asFields(document);
    return response.output === undefined && response.status === undefined ? [] : mapResponse(response, null);
  }

  function mapOtherEvent(type: string | null, event: Fields): MappedEvent | null {
    if (isErrorValue(event) || (type === null && isBareError(event)))
      return { type: "error", error: mapErrorFields(event) };
    if (event.object === "response") return shiftAndQueue(mapDocument(event));
    const impliedStatus = finalEvents.get(type);
    return impliedStatus === undefined ? null : shiftAndQueue(mapResponse(asFields(event.response), impliedStatus));
  }

  function mapEvent(type: string | null, event: Fields): MappedEvent | null {
    switch (type) {
      case "response.output_text.delta":
      case "response.refusal.delta":
        return mapDelta(event);
      case "response.reasoning_text.delta":
      case "response.reasoning_summary_text.delta":
        return mapReasoning(event.delta, event.output_index, event.summary_index ?? event.content_index);
      case "response.output_text.done":
      case "response.refusal.done":
        return shiftAndQueue(mapPart(event.output_index, event.content_index, event));
      case "response.content_part.done":
        return shiftAndQueue(mapPart(event.output_index, event.content_index, asFields(event.part)));
      case "response.output_item.added":
        return startItem(event);
      case "response.output_item.done":
        return finishItem(event);
      case "response.function_call_arguments.delta":
        calls.addArguments(event);
        return toolCallEvent;
      case "response.function_call_arguments.done":
        calls.setArguments(event);
        return toolCallEvent;
      default:
        return mapOtherEvent(type, event);
    }
  }

  return {
    map({ event: name, data }) {
      if (isBlankData(data)) return null;
      const event = asFields(JSON.parse(data));
      return mapEvent(asNonEmptyString(event.type) ?? name, event);
    },
    mapNext: () => pendingParts.shift() ?? null,
    mapDocument,
    isEvent: (document) => asNonEmptyString(asFields(document).type)?.startsWith("response.") ?? false,
  };
}

/** The events that end a response, with the status that each implies. */
const finalEvents: ReadonlyMap<string | null, string | null> = new Map([
  ["response.completed", "completed"],
  ["response.incomplete", "incomplete"],
  ["response.failed", "failed"],
  ["response.cancelled", "cancelled"],
  ["response.done", null],
]);

const toolCallEvent = { type: "tool_call" } as const;
const isCall = ({ type }: Fields): boolean => type === "function_call";
const toolCallTypes = new Set<unknown>(["function_call", "custom_tool_call", "mcp_call"]);

function mapItemStart(type: unknown): MappedEvent | null {
  if (toolCallTypes.has(type)) return toolCallEvent;
  return type === "reasoning" ? { type: "reasoning", text: "" } : null;
}
