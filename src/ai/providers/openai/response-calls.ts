import type { ToolCall } from "../../provider.ts";
import { asFields, asText, type Fields } from "../read-fields.ts";
import { createToolCalls, parseNameOrId, toArgumentsText } from "../tool-calls.ts";

/**
 * Collects the tool calls of one response. The Responses API sends each call several times: its arguments in deltas, the
 * complete call at the end of its item, and the complete call again at the end of the response. Compatible servers may omit any
 * of these, and may use different ids at the end.
 */
export function createToolCallCollector() {
  const calls = createToolCalls();
  /** The comparison keys of the added calls, in order. */
  const addedKeys: string[] = [];
  /** The comparison keys of the added calls, by id. */
  const keysById = new Map<string, string>();
  /** Items of started calls, by their item keys (see `getKey`). */
  const startedCalls = new Map<string, Fields>();
  const drafts = createToolCalls();

  function add(item: Fields, text: string): void {
    const comparisonKey = getComparisonKey(item, text);
    const ids = [parseNameOrId(item.call_id), parseNameOrId(item.id)].filter((id) => id !== null);
    // The end of the same item may be sent twice. An item with the same id but another name or other arguments is another call.
    if (ids.some((id) => keysById.get(id) === comparisonKey)) return;
    for (const id of ids) keysById.set(id, comparisonKey);
    calls.add(addedKeys.length, { id: ids[0], name: item.name, arguments: text });
    addedKeys.push(comparisonKey);
  }

  function getArguments(key: string, item: Fields): string {
    return toArgumentsText(item.arguments ?? "") || drafts.getArguments(key);
  }

  return {
    begin(event: Fields): void {
      const key = getKey(event);
      startedCalls.set(key, asFields(event.item));
      drafts.clearArguments(key);
    },
    /** Adds a chunk of the arguments. @throws BrokenStreamError if a limit is exceeded. */
    addArguments: (event: Fields): void => drafts.add(getKey(event), { arguments: event.delta }),
    setArguments(event: Fields): void {
      if (toArgumentsText(event.arguments ?? "") === "") return;
      drafts.clearArguments(getKey(event));
      drafts.add(getKey(event), { arguments: event.arguments });
    },
    end(event: Fields): void {
      const key = getKey(event);
      const item = asFields(event.item);
      add({ ...startedCalls.get(key), ...item }, getArguments(key, item));
      startedCalls.delete(key);
      drafts.clearArguments(key);
    },
    /** Adds missing calls from the final event. Stops when as many calls have been added as that event has. */
    addRemaining(items: readonly Fields[]): void {
      if (items.length === 0) for (const [key, item] of startedCalls) add(item, getArguments(key, item));
      const unmatchedKeys = [...addedKeys];
      for (const item of items) {
        const text = toArgumentsText(item.arguments ?? "");
        const index = unmatchedKeys.indexOf(getComparisonKey(item, text));
        if (index >= 0) unmatchedKeys.splice(index, 1);
        else if (addedKeys.length < items.length) add(item, text);
      }
    },
    list: (): ToolCall[] => calls.list(),
  };
}

/** Combines a call's name and arguments. */
const getComparisonKey = ({ name }: Fields, text: string): string => `${parseNameOrId(name)} ${text}`;

/** Identifies an item. The index takes precedence over the id, which some servers change. */
const getKey = (event: Fields): string =>
  typeof event.output_index === "number"
    ? `key ${event.output_index}`
    : (asText(event.item_id) ?? asText(asFields(event.item).id) ?? "");
