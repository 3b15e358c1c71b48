import { createId } from "../../lib/id.ts";
import type { ToolCall } from "../provider.ts";
import { BrokenStreamError } from "../transport/event-stream.ts";

/** Maximum number of tool calls per step. Models make far fewer. */
export const TOOL_CALLS_MAX = 128;
/** Maximum length of all arguments of one step, in UTF-16 code units. */
export const TOOL_ARGUMENTS_LENGTH_MAX = 1_000_000;
/** Maximum length of a call's name or id, in UTF-16 code units. Some gateways put a model's signature into the id. */
export const TOOL_LABEL_LENGTH_MAX = 65_536;

type Draft = { id: string; name: string; chunks: string[]; extra: unknown };

/** A call with the extra content that must be sent back with it. */
export type CallWithExtra = { call: ToolCall; extra: unknown };

/** Assembles the tool calls of one step from their chunks. `key` identifies a call. */
export function createToolCallStore() {
  const drafts = new Map<string | number, Draft>();
  let length = 0;

  function getOrCreateDraft(key: string | number): Draft {
    const draft = drafts.get(key) ?? { id: "", name: "", chunks: [], extra: undefined };
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
        const providerId = cleanText(draft.id);
        const id = providerId === "" || ids.has(providerId) ? `call_${createId()}` : providerId;
        ids.add(id);
        const text = cleanText(draft.chunks.join("")) || "{}";
        return { call: { id, name: cleanText(draft.name), arguments: text }, extra: draft.extra };
      });
  }

  return {
    /** Adds a chunk of a call. @throws BrokenStreamError if a limit is exceeded. */
    add(key: string | number, chunk: { id?: unknown; name?: unknown; arguments?: unknown }): void {
      const draft = getOrCreateDraft(key);
      draft.id = parseNameOrId(chunk.id) ?? draft.id;
      draft.name = parseNameOrId(chunk.name) ?? draft.name;
      const text = toArgumentsText(chunk.arguments);
      length += text.length;
      if (length > TOOL_ARGUMENTS_LENGTH_MAX)
        throw new BrokenStreamError(`${TOOL_ARGUMENTS_LENGTH_MAX} characters of tool arguments`);
      if (text !== "") draft.chunks.push(text);
    },

    /** Sets the extra content of a call. */
    addExtra(key: string | number, extra: unknown): void {
      getOrCreateDraft(key).extra = extra;
    },

    /** Returns the received arguments of a call, trimmed. */
    getArguments: (key: string | number): string => drafts.get(key)?.chunks.join("").trim() ?? "",

    /** Discards the received arguments of a call. */
    clearArguments(key: string | number): void {
      const draft = drafts.get(key);
      if (draft) draft.chunks = [];
    },

    /** Returns the calls in order, with storable text and unique ids. Omits calls without a name. */
    list: (): ToolCall[] => listWithExtras().map(({ call }) => call),
    listWithExtras,
  };
}

/** Returns a valid name or id, or null. Some servers send the string "null" for a missing name or id. */
export const parseNameOrId = (value: unknown): string | null =>
  typeof value === "string" && value !== "" && value !== "null" && value.length <= TOOL_LABEL_LENGTH_MAX ? value : null;

/** Returns arguments as a string. Some local servers send an object or null. */
export const toArgumentsText = (value: unknown): string =>
  typeof value === "string" ? value : value === null ? "" : (JSON.stringify(value) ?? "");

const cleanText = (text: string): string => text.replaceAll("\0", "").toWellFormed();
