import type { ResponseInputItem } from "openai/resources/responses/responses";
import { createThinking, findModelThinking, THINKING_LENGTH_MAX, type Thinker } from "../../thinking.ts";
import type { Turn } from "../map-conversation.ts";
import { type Fields, readFields, readList, readText } from "../read-fields.ts";

/**
 * Collects the items of a response in their order. In a loop with tools its reasoning items come back, encrypted since
 * nothing is stored there, before the calls that they led to, with their own ids: an encrypted content only holds for its id
 * (developers.openai.com/api/docs/guides/reasoning; "item_id did not match" in maximhq/bifrost#5186). Texts and calls are
 * known in full, so only their places are kept.
 */
export function createItemRecord() {
  let items: Fields[] = [];

  function add(item: Fields): void {
    const kept = keep(item);
    if (kept) items.push(kept);
  }

  return {
    /** Takes an item that has ended. */
    add,
    /** Takes all items as the last event has them, where they did not come before. */
    addOutput(output: readonly Fields[]): void {
      if (items.some(({ type }) => type === "reasoning")) return;
      items = [];
      for (const item of output) add(item);
    },
    /** What goes back to this model with the calls of the answer. */
    read(thinker: Thinker | undefined) {
      const length = items.reduce((sum, { encrypted_content: text }) => sum + (readText(text)?.length ?? 0), 0);
      const hasThinking = length > 0 && length <= THINKING_LENGTH_MAX;
      return createThinking(thinker, hasThinking ? { items } : null);
    },
  };
}

/** Without `status`, which is refused in a request. */
function keep({ type, id, summary, content, encrypted_content, call_id, phase }: Fields): Fields | null {
  switch (type) {
    case "reasoning":
      // Without its content an item would be looked up by its id, in vain.
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

/** The items of a turn by what this very model has given with it; none: it has given nothing. */
export function mapItems(
  turn: AssistantTurn,
  thinker: Thinker,
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
  // Reasoning without the item that followed it is refused.
  while (whole.at(-1)?.type === "reasoning") whole.pop();
  return whole;
}
