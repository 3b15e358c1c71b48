import type { ToolCall } from "../../provider.ts";
import { type Fields, readFields } from "../read-fields.ts";
import { type CallWithExtra, createToolCalls, readArguments, readLabel } from "../tool-calls.ts";
import { ObjectScanner } from "./object-scanner.ts";

/** A piece of a call; absent fields are null. */
type Piece = { index: number | null; id: string | null; name: string | null; text: string; extra?: Fields | null };

/** Where calls are written: the server's index, or a position in an array of several. */
type Slot = number | string | null;

/** A call being assembled. `batch`: the array of its newest piece. */
type Call = { key: number; slot: Slot; id: string | null; name: string | null; scanner: ObjectScanner; batch: number };

/** How a piece relates to the call in its slot. */
type Role = "next" | "more" | "again" | "nothing";

/**
 * Assembles tool calls from deltas of servers that number them badly: all under one index or none, with changing ids or
 * repeated names. A new name, or a complete JSON object before it, starts a new call.
 */
export class ToolCallJoiner {
  readonly #store = createToolCalls();
  readonly #calls: Call[] = [];
  readonly #bySlot = new Map<Slot, Call>();
  #last: Call | undefined;
  #batch = 0;
  /** The ids changed within a call, so they are meaningless. */
  #areIdsUnstable = false;

  /** Reads the pieces of one delta. Returns whether any of them has content. @throws BrokenStreamError beyond the limits. */
  add(entries: readonly unknown[]): boolean {
    this.#batch += 1;
    let hasPieces = false;
    for (const [position, entry] of entries.entries()) {
      const piece = readPiece(entry);
      if (piece.id === null && piece.name === null && piece.text === "" && !piece.extra) continue;
      hasPieces = true;
      this.#take(piece, piece.index ?? (entries.length > 1 ? `place ${position}` : null));
    }
    return hasPieces;
  }

  list(): ToolCall[] {
    return this.#store.list();
  }

  /** The same, with each call's extra content. */
  listWithExtras(): CallWithExtra[] {
    return this.#store.listWithExtras();
  }

  /** Text after a complete object in the same piece is handled as another piece. */
  #take(piece: Piece, slot: Slot): void {
    let rest: Piece | null = piece;
    while (rest) {
      const call = this.#place(rest, slot);
      // Also if it follows a completed call.
      const owner = call ?? this.#last;
      if (owner && rest.extra) this.#store.addExtra(owner.key, rest.extra);
      // Some servers write missing arguments as null; within an object, null is a value.
      const isNothing = !call || (call.scanner.state === "blank" && isBlank(rest.text));
      const length = isNothing ? rest.text.length : call.scanner.read(rest.text);
      if (!isNothing) this.#store.add(call.key, { arguments: rest.text.slice(0, length) });
      const text = rest.text.slice(length);
      rest = text.trim() === "" ? null : { index: piece.index, id: null, name: null, text };
    }
  }

  /** Returns the call that a piece belongs to; null for a piece that adds nothing. */
  #place(piece: Piece, slot: Slot): Call | null {
    const current = this.#find(piece, slot);
    const role = current ? this.#findRole(current, piece) : "next";
    if (!current || role === "next") return this.#begin(slot, piece, current);
    this.#join(current, piece);
    if (role === "nothing") return null;
    if (current.scanner.state !== "complete") this.#areIdsUnstable ||= hasOtherId(current, piece);
    if (role === "again") {
      this.#store.clearArguments(current.key);
      current.scanner = new ObjectScanner();
    }
    return current;
  }

  #find(piece: Piece, slot: Slot): Call | undefined {
    const { index, id, name } = piece;
    const isNamesake = (call: Call) => call.id === id && (index === null || call.slot === slot);
    const known = id === null ? undefined : this.#calls.findLast(isNamesake);
    if (known) return known;
    if (slot === null) return this.#last;
    const there = this.#bySlot.get(slot);
    if (there || name !== null) return there;
    // A new slot without a name continues a call in another slot.
    if (index === null) return this.#last;
    if (id !== null) return this.#calls.findLast((call) => call.id === id);
    return this.#last?.scanner.state === "complete" ? undefined : this.#last;
  }

  #findRole(call: Call, piece: Piece): Role {
    const { name, text } = piece;
    if (name !== null && call.name !== null && name !== call.name) return "next";
    if (call.scanner.state === "complete") return this.#findRoleAfterObject(call, piece);
    const isRepeated = name !== null && name === call.name;
    if (call.scanner.state !== "blank" || !isRepeated) return "more";
    // The same name and no arguments yet: either another call without arguments, or the same call.
    const isComplete = isBlank(text) || isObject(text);
    const isParallel = call.batch === this.#batch && (piece.id === null || piece.id !== call.id);
    return isComplete && (isParallel || this.#hasNewId(call, piece)) ? "next" : "more";
  }

  #findRoleAfterObject(call: Call, piece: Piece): Role {
    const { name } = piece;
    const text = piece.text.trim();
    if (isBlank(text)) return name !== null && this.#hasNewId(call, piece) ? "next" : "nothing";
    if (name === null && !text.startsWith("{")) return "nothing";
    const isSame = name === null || (piece.id !== null && piece.id === call.id);
    if (!isSame) return "next";
    const before = this.#store.argumentsOf(call.key);
    // Some servers repeat the whole call at its end, or reserve its slot with an empty object.
    if (before === text) return "nothing";
    return /^\{\s*\}$/.test(before) ? "again" : "next";
  }

  #hasNewId(call: Call, piece: Piece): boolean {
    return !this.#areIdsUnstable && hasOtherId(call, piece);
  }

  #begin(slot: Slot, { id, name, text }: Piece, before: Call | undefined): Call {
    const key = this.#calls.length;
    // A second object without a name is a second call of the same function.
    const called = name ?? (isBlank(text) ? null : (before?.name ?? null));
    const call = { key, slot, id, name: called, scanner: new ObjectScanner(), batch: this.#batch };
    this.#calls.push(call);
    this.#store.add(key, { id, name: called });
    this.#bySlot.set(slot, call);
    this.#last = call;
    return call;
  }

  #join(call: Call, { id, name }: Piece): void {
    call.batch = this.#batch;
    call.id ??= id;
    call.name ??= name;
    this.#store.add(call.key, { id: call.id, name: call.name });
    this.#bySlot.set(call.slot, call);
    this.#last = call;
  }
}

const hasOtherId = (call: Call, { id }: Piece): boolean => id !== null && call.id !== null && id !== call.id;

const isBlank = (text: string): boolean => /^\s*(?:null\s*)?$/.test(text);

function isObject(text: string): boolean {
  const scanner = new ObjectScanner();
  return scanner.read(text) === text.trimEnd().length && scanner.state === "complete";
}

function readPiece(entry: unknown): Piece {
  const fields = readFields(entry);
  const called = readFields(fields.function ?? fields);
  return {
    index: readIndex(fields.index),
    id: readLabel(fields.id),
    name: readLabel(called.name),
    text: readArguments(called.arguments),
    extra: readExtra(fields.extra_content),
  };
}

/** Gemini's thinking data attached to a call. */
function readExtra(value: unknown): Fields | null {
  const extra = readFields(value);
  return Object.keys(extra).length > 0 ? extra : null;
}

function readIndex(value: unknown): number | null {
  const index = typeof value === "string" && /^\d{1,3}$/.test(value) ? Number(value) : value;
  return typeof index === "number" && Number.isInteger(index) && index >= 0 ? index : null;
}
