import type { ResponseInputItem } from "openai/resources/responses/responses";
import { createThinking, findModelThinking, THINKING_LENGTH_MAX, type ThinkingSource } from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";

/**
 * Records the items of a response in order. In a tool loop its reasoning items are returned before the calls that they led
 * to, encrypted because the provider stores nothing, and with their own ids: encrypted content is only valid for its id
 * (developers.openai.com/api/docs/guides/reasoning; "item_id did not match" in maximhq/bifrost#5186). Texts and calls are
 * known in full, so only their positions are kept.
 */
export function createItemRecord() {
  let items: Fields[] = [];

  function add(item: Fields): void {
    const kept = keep(item);
    if (kept) items.push(kept);
  }

  return {
    /** Adds a completed item. */
    add,
    /** Adds the items of the last event that did not arrive before. */
    addOutput(output: readonly Fields[]): void {
      if (items.some(({ type }) => type === "reasoning")) return;
      items = [];
      for (const item of output) add(item);
    },
    /** Returns the thinking to send back to this model with the answer's calls. */
    read(thinker: ThinkingSource | undefined) {
      const length = items.reduce((sum, { encrypted_content: text }) => sum + (readText(text)?.length ?? 0), 0);
      const hasThinking = length > 0 && length <= THINKING_LENGTH_MAX;
      return createThinking(thinker, hasThinking ? { items } : null);
    },
  };
}

/** Without `status`, which requests may not contain. */
function keep({ type, id, summary, content, encrypted_content, call_id, phase }: Fields): Fields | null {
  switch (type) {
    case "reasoning":
      // Without its content, the API would look the item up by id and not find it.
      if (readText(encrypted_content) === null) return null;
      return {
        type,
        id,
        summary: readList(summary),
        ...(readList(content).length > 0 && { content }),
        encrypted_content,
      };
    case "function_call":
      return { type, id, call_id };
    case "message":
      return { type, ...(readText(phase) !== null && { phase }) };
    default:
      return null;
  }
}

type AssistantTurn = Extract<Turn, { role: "assistant" }>;

/** Rebuilds a turn's items from what this same model sent with it; none: it sent nothing. */
export function mapItems(
  turn: AssistantTurn,
  thinker: ThinkingSource,
  message: ResponseInputItem[],
  calls: readonly Extract<ResponseInputItem, { type: "function_call" }>[],
): ResponseInputItem[] | null {
  const kept = readList(findModelThinking(turn.thinking, thinker)?.items).map(readFields);
  if (kept.length === 0) return null;
  let [text] = message;
  const left = new Map(calls.map((call) => [call.call_id, call]));
  const mapped: ResponseInputItem[] = [];
  for (const item of kept) {
    const call = item.type === "function_call" ? left.get(String(item.call_id)) : undefined;
    if (item.type === "reasoning") mapped.push(item as unknown as ResponseInputItem);
    else if (call) {
      mapped.push({ ...call, ...(readText(item.id) !== null && { id: String(item.id) }) });
      left.delete(call.call_id);
    } else if (item.type === "message" && text) {
      mapped.push({ ...text, ...(readText(item.phase) !== null && { phase: item.phase }) } as ResponseInputItem);
      text = undefined;
    }
  }
  const whole = [...(text ? [text] : []), ...mapped, ...left.values()];
  // Reasoning without the item after it is rejected.
  while (whole.at(-1)?.type === "reasoning") whole.pop();
  return whole;
}
