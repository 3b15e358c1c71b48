import type { ToolCall } from "../../provider.ts";
import { type Fields, readFields, readText } from "../read-fields.ts";
import { createToolCalls, readArguments, readLabel } from "../tool-calls.ts";

/**
 * Collects the tool calls of one response. The Responses API sends each call several times: its arguments in deltas, all of
 * it at the end of its item, and again at the end of the response. Compatible servers may omit any of these, and use other
 * ids at the end.
 */
export function createResponseCalls() {
  const calls = createToolCalls();
  /** Names and arguments of the calls, in order. */
  const taken: string[] = [];
  /** The same, by id. */
  const known = new Map<string, string>();
  /** Calls that have started, and arguments that arrived separately, by position. */
  const begun = new Map<string, Fields>();
  const drafts = createToolCalls();

  function add(item: Fields, text: string): void {
    const description = describe(item, text);
    const ids = [readLabel(item.call_id), readLabel(item.id)].filter((id) => id !== null);
    // An item may end twice; a different one with the same id is another call.
    if (ids.some((id) => known.get(id) === description)) return;
    for (const id of ids) known.set(id, description);
    calls.add(taken.length, { id: ids[0], name: item.name, arguments: text });
    taken.push(description);
  }

  function readDraft(place: string, item: Fields): string {
    return readArguments(item.arguments ?? "") || drafts.argumentsOf(place);
  }

  return {
    /** Starts a call. */
    begin(event: Fields): void {
      const place = nameOf(event);
      begun.set(place, readFields(event.item));
      drafts.clearArguments(place);
    },
    /** Adds a piece of the arguments. @throws BrokenStreamError beyond the limits. */
    addArguments: (event: Fields): void => drafts.add(nameOf(event), { arguments: event.delta }),
    /** Sets the complete arguments. */
    setArguments(event: Fields): void {
      if (readArguments(event.arguments ?? "") === "") return;
      drafts.clearArguments(nameOf(event));
      drafts.add(nameOf(event), { arguments: event.arguments });
    },
    /** Ends a call. */
    end(event: Fields): void {
      const place = nameOf(event);
      const item = readFields(event.item);
      add({ ...begun.get(place), ...item }, readDraft(place, item));
      begun.delete(place);
      drafts.clearArguments(place);
    },
    /** Reads all calls of the last event: those not seen before are new, if there are more than before. */
    endAll(items: readonly Fields[]): void {
      if (items.length === 0) for (const [place, item] of begun) add(item, readDraft(place, item));
      const before = [...taken];
      for (const item of items) {
        const text = readArguments(item.arguments ?? "");
        const at = before.indexOf(describe(item, text));
        if (at >= 0) before.splice(at, 1);
        else if (taken.length < items.length) add(item, text);
      }
    },
    list: (): ToolCall[] => calls.list(),
  };
}

const describe = ({ name }: Fields, text: string): string => `${readLabel(name)} ${text}`;

/** Identifies an item. The index takes precedence over the id, which some servers change. */
const nameOf = (event: Fields): string =>
  typeof event.output_index === "number"
    ? `place ${event.output_index}`
    : (readText(event.item_id) ?? readText(readFields(event.item).id) ?? "");
