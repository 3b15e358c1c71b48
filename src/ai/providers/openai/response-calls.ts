import type { ToolCall } from "../../provider.ts";
import { type Fields, readFields, readText } from "../read-fields.ts";
import { createToolCalls, readArguments, readLabel } from "../tool-calls.ts";

/**
 * The tool calls of one response. The Responses API says each of them several times: its arguments in deltas, all of it at
 * the end of its item, and again at the end of the response. Servers that speak it may leave any of these out, and give
 * other ids at the end.
 */
export function createResponseCalls() {
  const calls = createToolCalls();
  /** Names and arguments of the calls, in their order. */
  const taken: string[] = [];
  /** The same by their ids. */
  const known = new Map<string, string>();
  /** Calls that have begun, and the arguments that came apart from them, by their places. */
  const begun = new Map<string, Fields>();
  const drafts = createToolCalls();

  function add(item: Fields, text: string): void {
    const said = describe(item, text);
    const ids = [readLabel(item.call_id), readLabel(item.id)].filter((id) => id !== null);
    // The same item may end twice; another one with its id is another call.
    if (ids.some((id) => known.get(id) === said)) return;
    for (const id of ids) known.set(id, said);
    calls.add(taken.length, { id: ids[0], name: item.name, arguments: text });
    taken.push(said);
  }

  function readDraft(place: string, item: Fields): string {
    return readArguments(item.arguments ?? "") || drafts.argumentsOf(place);
  }

  return {
    /** A call begins. */
    begin(event: Fields): void {
      const place = nameOf(event);
      begun.set(place, readFields(event.item));
      drafts.clearArguments(place);
    },
    /** Takes a piece of the arguments. @throws BrokenStreamError beyond the limits. */
    addArguments: (event: Fields): void => drafts.add(nameOf(event), { arguments: event.delta }),
    /** Takes all arguments. */
    setArguments(event: Fields): void {
      if (readArguments(event.arguments ?? "") === "") return;
      drafts.clearArguments(nameOf(event));
      drafts.add(nameOf(event), { arguments: event.arguments });
    },
    /** A call has ended. */
    end(event: Fields): void {
      const place = nameOf(event);
      const item = readFields(event.item);
      add({ ...begun.get(place), ...item }, readDraft(place, item));
      begun.delete(place);
      drafts.clearArguments(place);
    },
    /** All calls as the last event has them: what did not come before is new, if there are more than before. */
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

/** Where an item stands. The index goes before the id, which some servers change. */
const nameOf = (event: Fields): string =>
  typeof event.output_index === "number"
    ? `place ${event.output_index}`
    : (readText(event.item_id) ?? readText(readFields(event.item).id) ?? "");
