import type { ToolCall } from "../../provider.ts";
import { asFields, asNonEmptyString, type Fields } from "../read-fields.ts";
import { createToolCallStore, parseNameOrId, toArgumentsText } from "../tool-calls.ts";

/**
 * Collects the tool calls of one response. The Responses API sends each call several times: its arguments in deltas, the
 * complete call at the end of its item, and the complete call again at the end of the response. Compatible servers may omit any
 * of these, and may use different ids at the end.
 */
export function createToolCallCollector() {
  const calls = createToolCallStore();
  /** The comparison keys of the added calls, in order. */
  const addedKeys: string[] = [];
  /** The comparison keys of the added calls, by id. */
  const keysById = new Map<string, string>();
  /** Items of started calls, by item key. */
  const startedCalls = new Map<string, Fields>();
  /** The arguments of started calls, by item key. */
  const drafts = createToolCallStore();

  function addCall(item: Fields, text: string): void {
    const comparisonKey = getComparisonKey(item, text);
    const ids = [parseNameOrId(item.call_id), parseNameOrId(item.id)].filter((id) => id !== null);
    // The end of an item may be sent twice. An item with the same id but a different name or arguments is a different call.
    if (ids.some((id) => keysById.get(id) === comparisonKey)) return;
    for (const id of ids) keysById.set(id, comparisonKey);
    calls.add(addedKeys.length, { id: ids[0], name: item.name, arguments: text });
    addedKeys.push(comparisonKey);
  }

  function getArguments(key: string, item: Fields): string {
    return toArgumentsText(item.arguments ?? "") || drafts.getArguments(key);
  }

  return {
    startCall(event: Fields): void {
      const key = getItemKey(event);
      startedCalls.set(key, asFields(event.item));
      drafts.clearArguments(key);
    },
    /** Adds a chunk of the arguments. @throws BrokenStreamError if a limit is exceeded. */
    addArguments: (event: Fields): void => drafts.add(getItemKey(event), { arguments: event.delta }),
    setArguments(event: Fields): void {
      if (toArgumentsText(event.arguments ?? "") === "") return;
      drafts.clearArguments(getItemKey(event));
      drafts.add(getItemKey(event), { arguments: event.arguments });
    },
    finishCall(event: Fields): void {
      const key = getItemKey(event);
      const item = asFields(event.item);
      addCall({ ...startedCalls.get(key), ...item }, getArguments(key, item));
      startedCalls.delete(key);
      drafts.clearArguments(key);
    },
    /** Adds missing calls from the final event, until there are as many calls as in that event. */
    addRemaining(items: readonly Fields[]): void {
      if (items.length === 0) for (const [key, item] of startedCalls) addCall(item, getArguments(key, item));
      const unmatchedKeys = [...addedKeys];
      for (const item of items) {
        const text = toArgumentsText(item.arguments ?? "");
        const index = unmatchedKeys.indexOf(getComparisonKey(item, text));
        if (index >= 0) unmatchedKeys.splice(index, 1);
        else if (addedKeys.length < items.length) addCall(item, text);
      }
    },
    list: (): ToolCall[] => calls.list(),
  };
}

/** Combines a call's name and arguments. */
const getComparisonKey = ({ name }: Fields, text: string): string => `${parseNameOrId(name)} ${text}`;

/** Identifies an item. The index takes precedence over the id, which some servers change. */
const getItemKey = (event: Fields): string =>
  typeof event.output_index === "number"
    ? `key ${event.output_index}`
    : (asNonEmptyString(event.item_id) ?? asNonEmptyString(asFields(event.item).id) ?? "");
