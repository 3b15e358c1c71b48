import type { ResponseInputItem } from "openai/resources/responses/responses";
import { createThinking, findModelThinking, THINKING_LENGTH_MAX, type ThinkingSource } from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { asFields, asList, asNonEmptyString, type Fields } from "../read-fields.ts";

/**
 * Records a response's items in order. In a tool loop, each reasoning item must be sent back before the calls that it led to
 * (developers.openai.com/api/docs/guides/reasoning). Reasoning items are encrypted, and only valid together with their ids
 * ("item_id did not match" in maximhq/bifrost#5186). Text and calls are stored elsewhere, so only their order is recorded.
 */
export function createItemRecord() {
  let items: Fields[] = [];

  function add(item: Fields): void {
    const recordedItem = pickFields(item);
    if (recordedItem) items.push(recordedItem);
  }

  return {
    /** Adds a completed item. */
    add,
    /** Adds the items of the last event, if no reasoning was streamed. */
    addOutput(output: readonly Fields[]): void {
      if (items.some(({ type }) => type === "reasoning")) return;
      items = [];
      for (const item of output) add(item);
    },
    /** Returns the thinking to send back to this model with the answer's calls. */
    buildThinking(thinkingSource: ThinkingSource | undefined) {
      const length = items.reduce((sum, { encrypted_content: text }) => sum + (asNonEmptyString(text)?.length ?? 0), 0);
      const hasThinking = length > 0 && length <= THINKING_LENGTH_MAX;
      return createThinking(thinkingSource, hasThinking ? { items } : null);
    },
  };
}

/** Returns the fields to send back, without `status`, which the API rejects in requests. */
function pickFields({ type, id, summary, content, encrypted_content, call_id, phase }: Fields): Fields | null {
  switch (type) {
    case "reasoning":
      // Without the encrypted content, the API would look for the item in its storage and fail.
      if (asNonEmptyString(encrypted_content) === null) return null;
      return {
        type,
        id,
        summary: asList(summary),
        ...(asList(content).length > 0 && { content }),
        encrypted_content,
      };
    case "function_call":
      return { type, id, call_id };
    case "message":
      return { type, ...(asNonEmptyString(phase) !== null && { phase }) };
    default:
      return null;
  }
}

type AssistantTurn = Extract<Turn, { role: "assistant" }>;

/** Restores a turn's items with this model's thinking. Returns null if the turn has no thinking from this model. */
export function restoreItems(
  turn: AssistantTurn,
  thinkingSource: ThinkingSource,
  message: ResponseInputItem[],
  calls: readonly Extract<ResponseInputItem, { type: "function_call" }>[],
): ResponseInputItem[] | null {
  const recordedItems = asList(findModelThinking(turn.thinking, thinkingSource)?.items).map(asFields);
  if (recordedItems.length === 0) return null;
  let [textItem] = message;
  const remainingCalls = new Map(calls.map((call) => [call.call_id, call]));
  const mappedItems: ResponseInputItem[] = [];
  for (const item of recordedItems) {
    const call = item.type === "function_call" ? remainingCalls.get(String(item.call_id)) : undefined;
    if (item.type === "reasoning") mappedItems.push(item as unknown as ResponseInputItem);
    else if (call) {
      mappedItems.push({ ...call, ...(asNonEmptyString(item.id) !== null && { id: String(item.id) }) });
      remainingCalls.delete(call.call_id);
    } else if (item.type === "message" && textItem) {
      mappedItems.push({
        ...textItem,
        ...(asNonEmptyString(item.phase) !== null && { phase: item.phase }),
      } as ResponseInputItem);
      textItem = undefined;
    }
  }
  const result = [...(textItem ? [textItem] : []), ...mappedItems, ...remainingCalls.values()];
  // The API rejects reasoning without a following item.
  while (result.at(-1)?.type === "reasoning") result.pop();
  return result;
}
