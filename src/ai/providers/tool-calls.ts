import { createId } from "../../lib/id.ts";
import type { ToolCall } from "../provider.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";

/** Calls of one step; more than any model makes in earnest. */
export const TOOL_CALLS_MAX = 128;
/** UTF-16 units of all arguments of one step. */
export const TOOL_ARGUMENTS_LENGTH_MAX = 1_000_000;

type Draft = { id: string; name: string; pieces: string[] };

/** Puts the tool calls of one step together out of the pieces in which they come; `key` tells them apart. */
export function createToolCalls() {
  const drafts = new Map<string | number, Draft>();
  let length = 0;

  function open(key: string | number): Draft {
    const draft = drafts.get(key) ?? { id: "", name: "", pieces: [] };
    drafts.set(key, draft);
    if (drafts.size > TOOL_CALLS_MAX) throw new BrokenStreamError(`more than ${TOOL_CALLS_MAX} tool calls`);
    return draft;
  }

  return {
    /** Adds what came of a call. @throws BrokenStreamError beyond the limits. */
    add(key: string | number, piece: { id?: unknown; name?: unknown; arguments?: unknown }): void {
      const draft = open(key);
      if (typeof piece.id === "string" && piece.id !== "") draft.id = piece.id;
      if (typeof piece.name === "string" && piece.name !== "") draft.name = piece.name;
      // Some local servers give the arguments as an object.
      const text = typeof piece.arguments === "string" ? piece.arguments : (JSON.stringify(piece.arguments) ?? "");
      length += text.length;
      if (length > TOOL_ARGUMENTS_LENGTH_MAX)
        throw new BrokenStreamError(`${TOOL_ARGUMENTS_LENGTH_MAX} characters of tool arguments`);
      if (text !== "") draft.pieces.push(text);
    },

    /** The last call that was begun, for pieces that do not say to which they belong. */
    lastKey: (): string | number | undefined => [...drafts.keys()].at(-1),

    /** The calls in their order, in text that can be stored; one without a name cannot be carried out and is left out. */
    list: (): ToolCall[] =>
      [...drafts.values()]
        .filter(({ name }) => name !== "")
        .map(({ id, name, pieces }) => ({
          id: clean(id) || `call_${createId()}`,
          name: clean(name),
          arguments: clean(pieces.join("")) || "{}",
        })),
  };
}

const clean = (text: string): string => text.replaceAll("\0", "").toWellFormed();
