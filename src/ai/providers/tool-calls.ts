import { createId } from "../../lib/id.ts";
import type { ToolCall } from "../provider.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";

/** Calls of one step; more than any model makes in earnest. */
export const TOOL_CALLS_MAX = 128;
/** UTF-16 units of all arguments of one step. */
export const TOOL_ARGUMENTS_LENGTH_MAX = 1_000_000;
/** UTF-16 units of a name or an id; some gateways keep a model's signature in the id. A longer one counts as none. */
export const TOOL_LABEL_LENGTH_MAX = 65_536;

type Draft = { id: string; name: string; pieces: string[]; extra: unknown };

/** A call with what its server wants back beside it. */
export type CallWithExtra = { call: ToolCall; extra: unknown };

/** Puts the tool calls of one step together out of the pieces in which they come; `key` tells them apart. */
export function createToolCalls() {
  const drafts = new Map<string | number, Draft>();
  let length = 0;

  function open(key: string | number): Draft {
    const draft = drafts.get(key) ?? { id: "", name: "", pieces: [], extra: undefined };
    drafts.set(key, draft);
    if (drafts.size > TOOL_CALLS_MAX) throw new BrokenStreamError(`more than ${TOOL_CALLS_MAX} tool calls`);
    return draft;
  }

  /** The calls as `list` has them. */
  function listWithExtras(): CallWithExtra[] {
    const ids = new Set<string>();
    return [...drafts.values()]
      .filter(({ name }) => name !== "")
      .map((draft) => {
        const stated = clean(draft.id);
        const id = stated === "" || ids.has(stated) ? `call_${createId()}` : stated;
        ids.add(id);
        const text = clean(draft.pieces.join("")) || "{}";
        return { call: { id, name: clean(draft.name), arguments: text }, extra: draft.extra };
      });
  }

  return {
    /** Adds what came of a call. @throws BrokenStreamError beyond the limits. */
    add(key: string | number, piece: { id?: unknown; name?: unknown; arguments?: unknown }): void {
      const draft = open(key);
      draft.id = readLabel(piece.id) ?? draft.id;
      draft.name = readLabel(piece.name) ?? draft.name;
      const text = readArguments(piece.arguments);
      length += text.length;
      if (length > TOOL_ARGUMENTS_LENGTH_MAX)
        throw new BrokenStreamError(`${TOOL_ARGUMENTS_LENGTH_MAX} characters of tool arguments`);
      if (text !== "") draft.pieces.push(text);
    },

    /** Keeps what belongs to a call beside its name and arguments; what comes later takes its place. */
    addExtra(key: string | number, extra: unknown): void {
      open(key).extra = extra;
    },

    /** The arguments of a call so far, without white space around them. */
    argumentsOf: (key: string | number): string => drafts.get(key)?.pieces.join("").trim() ?? "",

    /** Forgets the arguments of a call, which come anew. */
    clearArguments(key: string | number): void {
      const draft = drafts.get(key);
      if (draft) draft.pieces = [];
    },

    /**
     * The calls in their order, in text that can be stored, each with an id of its own; one without a name cannot be
     * carried out and is left out.
     */
    list: (): ToolCall[] => listWithExtras().map(({ call }) => call),
    listWithExtras,
  };
}

/** A name or an id, or null. Servers that write their JSON by hand have the text "null" for none. */
export const readLabel = (value: unknown): string | null =>
  typeof value === "string" && value !== "" && value !== "null" && value.length <= TOOL_LABEL_LENGTH_MAX ? value : null;

/** A piece of arguments as text. Some local servers give them as an object; null is none. */
export const readArguments = (value: unknown): string =>
  typeof value === "string" ? value : value === null ? "" : (JSON.stringify(value) ?? "");

const clean = (text: string): string => text.replaceAll("\0", "").toWellFormed();
