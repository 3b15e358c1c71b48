import { isBareError, isErrorValue } from "../../error-fields.ts";
import { mapErrorFields } from "../../provider-error.ts";
import type { ThinkingSource } from "../../thinking.ts";
import { type EventMapper, isBlankData, type MappedEvent } from "../event-mapper.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";
import { createReasoningSeparator } from "../reasoning-separator.ts";
import { createOutputTexts } from "./output-texts.ts";
import { createResponseCalls } from "./response-calls.ts";
import { findEnd, mapUsage } from "./response-end.ts";
import { createItemRecord } from "./response-thinking.ts";

/**
 * Reads the events of OpenAI's Responses API, which ends with `response.completed` or `response.incomplete`. Texts and calls
 * that only arrive whole, at the end of their item or in the last event, are read there.
 * @param thinker the provider and model whose thinking is kept, because they need it back. Absent: none is kept.
 */
export function createResponsesMapper(thinker?: ThinkingSource): EventMapper {
  const record = createItemRecord();
  const texts = createOutputTexts();
  const calls = createResponseCalls();
  const separateReasoning = createReasoningSeparator();
  let hasReasoning = false;
  let rest: MappedEvent[] = [];

  function several(events: MappedEvent[]): MappedEvent | null {
    rest = events;
    return rest.shift() ?? null;
  }

  function takeDelta(event: Fields): MappedEvent | null {
    const text = readText(event.delta);
    if (text === null) return null;
    texts.add(event.output_index, event.content_index, text);
    return { type: "text", text };
  }

  /** @param places numbers of the item, and of its summary or part. */
  function takeReasoning(value: unknown, ...places: unknown[]): MappedEvent {
    const text = readText(value) ?? "";
    if (text !== "") hasReasoning = true;
    return { type: "reasoning", text: separateReasoning(JSON.stringify(places), text) };
  }

  /** Reads a part of a message. A refusal is shown to the reader as text. */
  function takePart(output: unknown, content: unknown, part: Fields): MappedEvent[] {
    const whole = readText(part.text) ?? readText(part.refusal);
    const text = whole === null ? null : texts.addWhole(output, content, whole);
    return text === null ? [] : [{ type: "text", text }];
  }

  /** Reads a complete item. `place` is its index; the last event numbers items again. */
  function takeItem(place: unknown, item: Fields): MappedEvent[] {
    switch (item.type) {
      case "reasoning": {
        if (hasReasoning) return [];
        const parts = [...readList(item.summary), ...readList(item.content)];
        return parts.map((part, index) => takeReasoning(readFields(part).text, place, index));
      }
      case "message":
        if (typeof item.content === "string") return takePart(place, 0, { text: item.content });
        return readList(item.content).flatMap((part, index) => takePart(place, index, readFields(part)));
      default:
        return [];
    }
  }

  function takeItemStart(event: Fields): MappedEvent | null {
    const item = readFields(event.item);
    if (isCall(item)) calls.begin(event);
    return mapItemStart(item.type);
  }

  function takeItemEnd(event: Fields): MappedEvent | null {
    const item = readFields(event.item);
    record.add(item);
    if (!isCall(item)) return several(takeItem(event.output_index, item));
    calls.end(event);
    return toolCall;
  }

  function takeOutput(output: unknown): MappedEvent[] {
    // If any text was streamed, the last event repeats the same texts, though perhaps at other positions.
    const areTextsNew = texts.isEmpty();
    const items = readList(output).map(readFields);
    const called = items.filter(isCall);
    calls.endAll(called);
    record.addOutput(items);
    const parts = items.flatMap((item, index) =>
      item.type === "message" && !areTextsNew ? [] : takeItem(index, item),
    );
    return called.length > 0 ? [...parts, toolCall] : parts;
  }

  /** Reads the response in the last event or in a document. `impliedStatus`: the status implied by the event's name. */
  function takeResponse(response: Fields, impliedStatus: string | null): MappedEvent[] {
    const usage = mapUsage(response.usage);
    const end = findEnd(response, impliedStatus);
    if (typeof end !== "string") {
      const { error } = end;
      return usage
        ? [
            { type: "usage", usage },
            { type: "error", error },
          ]
        : [{ type: "error", error }];
    }
    const parts = takeOutput(response.output);
    // Some servers put the text next to an empty output.
    if (texts.isEmpty()) parts.push(...takePart(0, 0, { text: response.output_text }));
    const toolCalls = calls.list();
    const thinking = record.read(thinker);
    if (end !== "stop" || toolCalls.length === 0) return [...parts, { type: "finish", reason: end, usage, thinking }];
    return [...parts, { type: "finish", reason: "tool_calls", usage, toolCalls, thinking }];
  }

  function mapWhole(document: unknown): MappedEvent[] {
    const response = readFields(document);
    return response.output === undefined && response.status === undefined ? [] : takeResponse(response, null);
  }

  function mapOther(type: string | null, event: Fields): MappedEvent | null {
    if (isErrorValue(event) || (type === null && isBareError(event)))
      return { type: "error", error: mapErrorFields(event) };
    if (event.object === "response") return several(mapWhole(event));
    const impliedStatus = lastEvents.get(type);
    return impliedStatus === undefined ? null : several(takeResponse(readFields(event.response), impliedStatus));
  }

  function mapEvent(type: string | null, event: Fields): MappedEvent | null {
    switch (type) {
      case "response.output_text.delta":
      case "response.refusal.delta":
        return takeDelta(event);
      case "response.reasoning_text.delta":
      case "response.reasoning_summary_text.delta":
        return takeReasoning(event.delta, event.output_index, event.summary_index ?? event.content_index);
      case "response.output_text.done":
      case "response.refusal.done":
        return several(takePart(event.output_index, event.content_index, event));
      case "response.content_part.done":
        return several(takePart(event.output_index, event.content_index, readFields(event.part)));
      case "response.output_item.added":
        return takeItemStart(event);
      case "response.output_item.done":
        return takeItemEnd(event);
      case "response.function_call_arguments.delta":
        calls.addArguments(event);
        return toolCall;
      case "response.function_call_arguments.done":
        calls.setArguments(event);
        return toolCall;
      default:
        return mapOther(type, event);
    }
  }

  return {
    map({ event: name, data }) {
      if (isBlankData(data)) return null;
      const event = readFields(JSON.parse(data));
      return mapEvent(readText(event.type) ?? name, event);
    },
    mapRest: () => rest.shift() ?? null,
    mapWhole,
    isEvent: (document) => readText(readFields(document).type)?.startsWith("response.") ?? false,
  };
}

/** The events that end a response, with the status that each implies. */
const lastEvents: ReadonlyMap<string | null, string | null> = new Map([
  ["response.completed", "completed"],
  ["response.incomplete", "incomplete"],
  ["response.failed", "failed"],
  ["response.cancelled", "cancelled"],
  ["response.done", null],
]);

const toolCall = { type: "tool_call" } as const;
const isCall = ({ type }: Fields): boolean => type === "function_call";
const toolCallTypes = new Set<unknown>(["function_call", "custom_tool_call", "mcp_call"]);

function mapItemStart(type: unknown): MappedEvent | null {
  if (toolCallTypes.has(type)) return toolCall;
  return type === "reasoning" ? { type: "reasoning", text: "" } : null;
}
