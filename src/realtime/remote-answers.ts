import type { EphemeralEvent } from "../protocol/events.ts";
import type { ConversationMessage } from "./bus.ts";
import type { Snapshot } from "./channel.ts";

type Delta = EphemeralEvent<"message.delta">;
type Reset = EphemeralEvent<"message.reset">;
type Text = Extract<ConversationMessage, { type: "answer.text" }>;
/** `seq` is the number of the message; 0 while it isn't known. `isWhole`: nothing that was pushed so far is missing. */
type RemoteAnswer = { seq: number; attempt: number; text: string; reasoning: string; isWhole: boolean };

/** Answers that are not followed any more, so that what comes late of them is known: the newest of a conversation. */
const LEFT_MAX = 100;

/** An answer in progress with its text and its reasoning so far, as a new listener needs them. */
export type AnswerSnapshot = Snapshot & { seq: number; text: string; reasoning: string };

/** While an answer has a gap, its text is asked for once in this time. */
const ASK_MS = 500;

/**
 * The text and the reasoning so far of answers to one conversation that other instances write, put together from their
 * deltas: so that listeners get each piece once, and one who comes in the middle gets what was written before.
 */
export class RemoteAnswers {
  readonly #answers = new Map<string, RemoteAnswer>();
  /** Of answers that ended, or that this instance writes: the attempt up to which the others have no more to say. */
  readonly #left = new Map<string, number>();
  readonly #ask: () => void;
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  /** @param ask has those who write tell the text so far, by `takeText`. */
  constructor(ask: () => void) {
    this.#ask = ask;
  }

  /** The writers have been asked, for whatever reason. */
  noteAsked(): void {
    this.#askedAtMs = performance.now();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  /** A message was created that is still being written; if it was read from the database, it has a part of its text. */
  begin(messageId: string, seq: number, text: string, reasoning: string): void {
    const known = this.#answers.get(messageId);
    if (known) known.seq = seq;
    else this.#answers.set(messageId, { seq, attempt: 0, text, reasoning, isWhole: true });
  }

  /**
   * The answer has ended with this text.
   * @returns the attempt of which listeners have to be told the text first; null: they have it, or this instance wrote it.
   */
  end(messageId: string, text: string): number | null {
    const known = this.#answers.get(messageId);
    this.#leave(messageId, Number.POSITIVE_INFINITY);
    if (!known || (known.isWhole && known.text === text)) return null;
    return Math.max(1, known.attempt);
  }

  #leave(messageId: string, attempt: number): void {
    this.#answers.delete(messageId);
    this.#left.delete(messageId);
    this.#left.set(messageId, attempt);
    if (this.#left.size > LEFT_MAX) this.#left.delete(this.#left.keys().next().value ?? messageId);
  }

  /** @returns what listeners are sent of it: of what another instance writes, only what follows what they have. */
  take(message: Delta | Reset, isRemote: boolean): Delta | Reset | null {
    if (!isRemote) return this.#takeOwn(message) ? message : null;
    if (this.#isOutdated(message)) return null;
    if (message.type === "message.delta") return this.#takeDelta(message);
    const { message_id, attempt, text, reasoning = "" } = message;
    const seq = this.#answers.get(message_id)?.seq ?? 0;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isWhole: true });
    return message;
  }

  /** This instance writes the answer; it may have taken it over, or may not know yet that another one did. */
  #takeOwn({ message_id, attempt }: Delta | Reset): boolean {
    const known = this.#answers.get(message_id);
    if ((known?.attempt ?? 0) > attempt || this.#left.get(message_id) === Number.POSITIVE_INFINITY) return false;
    if (known) this.#leave(message_id, attempt);
    return true;
  }

  /** From an instance that was frozen, and does not know yet that another one goes on with its answer, or has ended it. */
  #isOutdated({ message_id, attempt }: Delta | Reset | Text): boolean {
    if (attempt <= (this.#left.get(message_id) ?? 0)) return true;
    return attempt < (this.#answers.get(message_id)?.attempt ?? 0);
  }

  #takeDelta(delta: Delta): Delta | Reset | null {
    const { message_id, attempt, offset, text } = delta;
    const part = delta.part ?? "text";
    const known = this.#answers.get(message_id);
    if (offset === 0 && (known === undefined || known.attempt === 0)) {
      const start = this.#takeStart(delta, known);
      if (start) return start;
    } else if (known?.isWhole && known.attempt === attempt && offset <= known[part].length) {
      if (offset < known[part].length) return null;
      known[part] += text;
      return delta;
    }
    this.#answers.set(message_id, { seq: known?.seq ?? 0, attempt, text: "", reasoning: "", isWhole: false });
    this.#askSoon();
    return null;
  }

  /**
   * The first delta of an answer. Null: listeners have read another part of it from the database, and nobody knows what of that
   * is missing.
   */
  #takeStart(delta: Delta, known: RemoteAnswer | undefined): Delta | Reset | null {
    const { conversation_id, message_id, attempt, text } = delta;
    const part = delta.part ?? "text";
    if (known && known[part === "text" ? "reasoning" : "text"] !== "") return null;
    const texts = { text: "", reasoning: "", [part]: text };
    this.#answers.set(message_id, { seq: known?.seq ?? 0, attempt, ...texts, isWhole: true });
    // Listeners may have read a part of the text from the database.
    return known?.[part] === "" ? delta : createReset({ conversation_id, message_id, attempt, ...texts });
  }

  /** Asks for what is missing, unless that comes in response to what was asked a moment ago. */
  #askSoon(): void {
    const ask = () => {
      this.#timer = undefined;
      if (!this.#hasGap()) return;
      this.#ask();
      this.#askSoon();
    };
    this.#timer ??= setTimeout(ask, Math.max(0, this.#askedAtMs + ASK_MS - performance.now()));
  }

  #hasGap(): boolean {
    for (const { isWhole } of this.#answers.values()) if (!isWhole) return true;
    return false;
  }

  /** The writer tells the whole text. @returns what listeners must be sent because of it; null: they have it. */
  takeText(told: Text): Reset | null {
    if (this.#isOutdated(told)) return null;
    const { conversation_id, message_id, seq, attempt, text, reasoning = "" } = told;
    const known = this.#answers.get(message_id);
    const isKnown =
      known?.isWhole &&
      known.attempt === attempt &&
      known.text.length === text.length &&
      known.reasoning.length === reasoning.length;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isWhole: true });
    return isKnown ? null : createReset({ conversation_id, message_id, attempt, text, reasoning });
  }

  /** Answers of which the text so far is known; nothing is, of one that was begun and not heard yet. */
  list(conversation_id: string): AnswerSnapshot[] {
    return [...this.#answers].flatMap(([messageId, { seq, attempt: known, text, reasoning, isWhole }]) => {
      if (!isWhole) return [];
      const attempt = Math.max(1, known);
      const reset = createReset({ conversation_id, message_id: messageId, attempt, text, reasoning });
      return [{ messageId, seq, attempt, text, reasoning, frame: JSON.stringify(reset) }];
    });
  }
}

const createReset = ({ reasoning, ...reset }: Omit<Text, "type" | "seq">): Reset => ({
  type: "message.reset",
  ...reset,
  ...(reasoning && { reasoning }),
});
