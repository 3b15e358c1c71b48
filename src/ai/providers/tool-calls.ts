import { createId } from "../../lib/id.ts";
import type { ToolCall } from "../provider.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";

/** Calls of one step; more than any model makes. */
export const TOOL_CALLS_MAX = 128;
/** UTF-16 units of all arguments of one step. */
export const TOOL_ARGUMENTS_LENGTH_MAX = 1_000_000;
/** UTF-16 units of a name or an id; some gateways put a model's signature into the id. A longer one counts as missing. */
export const TOOL_LABEL_LENGTH_MAX = 65_536;

type Draft = { id: string; name: string; pieces: string[]; extra: unknown };

/** A call with the extra content that its server needs back. */
export type CallWithExtra = { call: ToolCall; extra: unknown };

/** Assembles the tool calls of one step from their pieces; `key` identifies a call. */
export function createToolCalls() {
  const drafts = new Map<string | number, Draft>();
  let length = 0;

  function open(key: string | number): Draft {
    const draft = drafts.get(key) ?? { id: "", name: "", pieces: [], extra: undefined };
    drafts.set(key, draft);
    if (drafts.size > TOOL_CALLS_MAX) throw new BrokenStreamError(`more than ${TOOL_CALLS_MAX} tool calls`);
    return draft;
  }

  /** Like `list`, with each call's extra content. */
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
    /** Adds a piece of a call. @throws BrokenStreamError beyond the limits. */
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

    /** Stores extra content of a call; a later value replaces it. */
    addExtra(key: string | number, extra: unknown): void {
      open(key).extra = extra;
    },

    /** The arguments of a call so far, trimmed. */
    argumentsOf: (key: string | number): string => drafts.get(key)?.pieces.join("").trim() ?? "",

    /** Discards the arguments of a call before they are sent again. */
    clearArguments(key: string | number): void {
      const draft = drafts.get(key);
      if (draft) draft.pieces = [];
    },

    /** The calls in order, with storable text and unique ids. Calls without a name can't be executed and are omitted. */
    list: (): ToolCall[] => listWithExtras().map(({ call }) => call),
    listWithExtras,
  };
}

/** A name or an id, or null. Servers that format JSON by hand write the text "null" for none. */
export const readLabel = (value: unknown): string | null =>
  typeof value === "string" && value !== "" && value !== "null" && value.length <= TOOL_LABEL_LENGTH_MAX ? value : null;

/** A piece of arguments as text. Some local servers send an object; null is none. */
export const readArguments = (value: unknown): string =>
  typeof value === "string" ? value : value === null ? "" : (JSON.stringify(value) ?? "");

const clean = (text: string): string => text.replaceAll("\0", "").toWellFormed();
