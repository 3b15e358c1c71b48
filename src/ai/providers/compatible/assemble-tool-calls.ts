import type { ToolCall } from "../../provider.ts";
import { asFields, type Fields } from "../read-fields.ts";
import { type CallWithExtra, createToolCallStore, parseNameOrId, toArgumentsText } from "../tool-calls.ts";
import { ObjectScanner } from "./object-scanner.ts";

/** One chunk of a call. Missing fields are null. */
type CallChunk = { index: number | null; id: string | null; name: string | null; text: string; extra?: Fields | null };

/** Identifies the call that a chunk continues: the server's index, or the position in an array of calls. */
type Slot = number | string | null;

/** A call that is being assembled. `deltaNumber` identifies the delta that contained its newest chunk. */
type Call = {
  key: number;
  slot: Slot;
  id: string | null;
  name: string | null;
  scanner: ObjectScanner;
  deltaNumber: number;
};

/** What a chunk means for the call in its slot. A `redundant` chunk only repeats known content. */
type ChunkRole = "new_call" | "continuation" | "replacement" | "redundant";

/**
 * Assembles tool calls from the deltas of servers that don't number them correctly: all calls have the same index or none,
 * ids change, or names are repeated. A new call starts with a new name, or after a complete JSON object.
 */
export class ToolCallAssembler {
  readonly #store = createToolCallStore();
  readonly #calls: Call[] = [];
  readonly #callsBySlot = new Map<Slot, Call>();
  #lastCall: Call | undefined;
  #deltaNumber = 0;
  /** Whether an id has changed within a call. If so, ids are ignored. */
  #areIdsUnstable = false;

  /** Adds the calls of one delta. Returns whether any call has content. @throws BrokenStreamError if a limit is exceeded. */
  add(entries: readonly unknown[]): boolean {
    this.#deltaNumber += 1;
    let hasContent = false;
    for (const [position, entry] of entries.entries()) {
      const chunk = parseChunk(entry);
      if (chunk.id === null && chunk.name === null && chunk.text === "" && !chunk.extra) continue;
      hasContent = true;
      this.#processChunk(chunk, chunk.index ?? (entries.length > 1 ? `place ${position}` : null));
    }
    return hasContent;
  }

  list(): ToolCall[] {
    return this.#store.list();
  }

  /** Like `list`, with each call's extra content. */
  listWithExtras(): CallWithExtra[] {
    return this.#store.listWithExtras();
  }

  /** Processes a chunk. Text after a complete object is processed as another chunk. */
  #processChunk(chunk: CallChunk, slot: Slot): void {
    let remainingChunk: CallChunk | null = chunk;
    while (remainingChunk) {
      const call = this.#findOrCreateCall(remainingChunk, slot);
      // Extra content may also follow a completed call.
      const receivingCall = call ?? this.#lastCall;
      if (receivingCall && remainingChunk.extra) this.#store.addExtra(receivingCall.key, remainingChunk.extra);
      // Some servers send null if there are no arguments. Within an object, null is a value.
      const addsNothing = !call || (call.scanner.state === "blank" && isBlank(remainingChunk.text));
      const length = addsNothing ? remainingChunk.text.length : call.scanner.scan(remainingChunk.text);
      if (!addsNothing) this.#store.add(call.key, { arguments: remainingChunk.text.slice(0, length) });
      const text = remainingChunk.text.slice(length);
      remainingChunk = text.trim() === "" ? null : { index: chunk.index, id: null, name: null, text };
    }
  }

  /** Returns the call to which a chunk adds content, or null if the chunk is redundant. */
  #findOrCreateCall(chunk: CallChunk, slot: Slot): Call | null {
    const currentCall = this.#findCurrentCall(chunk, slot);
    const role = currentCall ? this.#findChunkRole(currentCall, chunk) : "new_call";
    if (!currentCall || role === "new_call") return this.#createCall(slot, chunk, currentCall);
    this.#updateCall(currentCall, chunk);
    if (role === "redundant") return null;
    if (currentCall.scanner.state !== "complete") this.#areIdsUnstable ||= hasDifferentId(currentCall, chunk);
    if (role === "replacement") {
      this.#store.clearArguments(currentCall.key);
      currentCall.scanner = new ObjectScanner();
    }
    return currentCall;
  }

  #findCurrentCall(chunk: CallChunk, slot: Slot): Call | undefined {
    const { index, id, name } = chunk;
    const hasSameId = (call: Call) => call.id === id && (index === null || call.slot === slot);
    const callWithId = id === null ? undefined : this.#calls.findLast(hasSameId);
    if (callWithId) return callWithId;
    if (slot === null) return this.#lastCall;
    const callInSlot = this.#callsBySlot.get(slot);
    if (callInSlot || name !== null) return callInSlot;
    // A chunk with a new slot but no name continues a call in another slot.
    if (index === null) return this.#lastCall;
    if (id !== null) return this.#calls.findLast((call) => call.id === id);
    return this.#lastCall?.scanner.state === "complete" ? undefined : this.#lastCall;
  }

  #findChunkRole(call: Call, chunk: CallChunk): ChunkRole {
    const { name, text } = chunk;
    if (name !== null && call.name !== null && name !== call.name) return "new_call";
    if (call.scanner.state === "complete") return this.#findRoleAfterObject(call, chunk);
    const isRepeated = name !== null && name === call.name;
    if (call.scanner.state !== "blank" || !isRepeated) return "continuation";
    // If the name is repeated before any arguments, the chunk may start a new call or repeat the current one.
    const isComplete = isBlank(text) || isObject(text);
    const isParallel = call.deltaNumber === this.#deltaNumber && (chunk.id === null || chunk.id !== call.id);
    return isComplete && (isParallel || this.#hasNewId(call, chunk)) ? "new_call" : "continuation";
  }

  #findRoleAfterObject(call: Call, chunk: CallChunk): ChunkRole {
    const { name } = chunk;
    const text = chunk.text.trim();
    if (isBlank(text)) return name !== null && this.#hasNewId(call, chunk) ? "new_call" : "redundant";
    if (name === null && !text.startsWith("{")) return "redundant";
    const isSameCall = name === null || (chunk.id !== null && chunk.id === call.id);
    if (!isSameCall) return "new_call";
    const previousText = this.#store.getArguments(call.key);
    // Some servers repeat the whole call at its end, or start with an empty object as a placeholder.
    if (previousText === text) return "redundant";
    return /^\{\s*\}$/.test(previousText) ? "replacement" : "new_call";
  }

  #hasNewId(call: Call, chunk: CallChunk): boolean {
    return !this.#areIdsUnstable && hasDifferentId(call, chunk);
  }

  #createCall(slot: Slot, { id, name, text }: CallChunk, previousCall: Call | undefined): Call {
    const key = this.#calls.length;
    // A further object without a name is another call to the same function.
    const functionName = name ?? (isBlank(text) ? null : (previousCall?.name ?? null));
    const call = { key, slot, id, name: functionName, scanner: new ObjectScanner(), deltaNumber: this.#deltaNumber };
    this.#calls.push(call);
    this.#store.add(key, { id, name: functionName });
    this.#callsBySlot.set(slot, call);
    this.#lastCall = call;
    return call;
  }

  #updateCall(call: Call, { id, name }: CallChunk): void {
    call.deltaNumber = this.#deltaNumber;
    call.id ??= id;
    call.name ??= name;
    this.#store.add(call.key, { id: call.id, name: call.name });
    this.#callsBySlot.set(call.slot, call);
    this.#lastCall = call;
  }
}

const hasDifferentId = (call: Call, { id }: CallChunk): boolean => id !== null && call.id !== null && id !== call.id;

const isBlank = (text: string): boolean => /^\s*(?:null\s*)?$/.test(text);

function isObject(text: string): boolean {
  const scanner = new ObjectScanner();
  return scanner.scan(text) === text.trimEnd().length && scanner.state === "complete";
}

function parseChunk(entry: unknown): CallChunk {
  const fields = asFields(entry);
  const definition = asFields(fields.function ?? fields);
  return {
    index: parseIndex(fields.index),
    id: parseNameOrId(fields.id),
    name: parseNameOrId(definition.name),
    text: toArgumentsText(definition.arguments),
    extra: parseExtra(fields.extra_content),
  };
}

/** Returns a call's thinking data from Gemini. */
function parseExtra(value: unknown): Fields | null {
  const extra = asFields(value);
  return Object.keys(extra).length > 0 ? extra : null;
}

function parseIndex(value: unknown): number | null {
  const index = typeof value === "string" && /^\d{1,3}$/.test(value) ? Number(value) : value;
  return typeof index === "number" && Number.isInteger(index) && index >= 0 ? index : null;
}
