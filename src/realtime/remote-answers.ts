import type { EphemeralEvent } from "../protocol/events.ts";
import type { ConversationMessage } from "./bus.ts";
import type { Snapshot } from "./channel.ts";

type Delta = EphemeralEvent<"message.delta">;
type Reset = EphemeralEvent<"message.reset">;
type Text = Extract<ConversationMessage, { type: "answer.text" }>;
/** `seq` is the number of the message; 0 while unknown. `isComplete`: no earlier push is missing. */
type RemoteAnswer = { seq: number; attempt: number; text: string; reasoning: string; isComplete: boolean };

/** Answers no longer followed, to recognize late messages about them: the newest of a conversation. */
const ENDED_MAX = 100;

/** An answer in progress with its text and reasoning so far, as a new listener needs them. */
export type AnswerSnapshot = Snapshot & { seq: number; text: string; reasoning: string };

/** While an answer has a gap, its text is requested at most once in this time. */
const REQUEST_INTERVAL_MS = 500;

/**
 * The text and reasoning so far of answers that other instances write to one conversation, assembled from their deltas.
 * Listeners get each piece once, and a new listener gets the text so far.
 */
export class RemoteAnswers {
  readonly #answers = new Map<string, RemoteAnswer>();
  /** For answers that ended or that this instance writes: the attempt up to which messages of others are outdated. */
  readonly #ended = new Map<string, number>();
  readonly #requestText: () => void;
  #requestedAtMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  /** @param requestText requests the text so far from the writers, who respond through `receiveSnapshot`. */
  constructor(requestText: () => void) {
    this.#requestText = requestText;
  }

  /** The writers were asked, for any reason. */
  markRequested(): void {
    this.#requestedAtMs = performance.now();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  /** A message in progress was created; if it was read from the database, it has a part of its text. */
  begin(messageId: string, seq: number, text: string, reasoning: string): void {
    const known = this.#answers.get(messageId);
    if (known) known.seq = seq;
    else this.#answers.set(messageId, { seq, attempt: 0, text, reasoning, isComplete: true });
  }

  /**
   * The answer has ended with this text.
   * @returns the attempt whose text listeners need first; null: they have it, or this instance wrote it.
   */
  end(messageId: string, text: string): number | null {
    const known = this.#answers.get(messageId);
    this.#markEnded(messageId, Number.POSITIVE_INFINITY);
    if (!known || (known.isComplete && known.text === text)) return null;
    return Math.max(1, known.attempt);
  }

  #markEnded(messageId: string, attempt: number): void {
    this.#answers.delete(messageId);
    this.#ended.delete(messageId);
    this.#ended.set(messageId, attempt);
    if (this.#ended.size > ENDED_MAX) this.#ended.delete(this.#ended.keys().next().value ?? messageId);
  }

  /** @returns the part to send to listeners: only what follows the text they have, if another instance writes it. */
  receive(message: Delta | Reset, isRemote: boolean): Delta | Reset | null {
    if (!isRemote) return this.#receiveOwn(message) ? message : null;
    if (this.#isOutdated(message)) return null;
    if (message.type === "message.delta") return this.#receiveDelta(message);
    const { message_id, attempt, text, reasoning = "" } = message;
    const seq = this.#answers.get(message_id)?.seq ?? 0;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isComplete: true });
    return message;
  }

  /** This instance writes the answer; it may have taken it over, or may not know yet that another one did. */
  #receiveOwn({ message_id, attempt }: Delta | Reset): boolean {
    const known = this.#answers.get(message_id);
    if ((known?.attempt ?? 0) > attempt || this.#ended.get(message_id) === Number.POSITIVE_INFINITY) return false;
    if (known) this.#markEnded(message_id, attempt);
    return true;
  }

  /** From an instance that was frozen, and doesn't know yet that another one has continued or ended its answer. */
  #isOutdated({ message_id, attempt }: Delta | Reset | Text): boolean {
    if (attempt <= (this.#ended.get(message_id) ?? 0)) return true;
    return attempt < (this.#answers.get(message_id)?.attempt ?? 0);
  }

  #receiveDelta(delta: Delta): Delta | Reset | null {
    const { message_id, attempt, offset, text } = delta;
    const part = delta.part ?? "text";
    const known = this.#answers.get(message_id);
    if (offset === 0 && (known === undefined || known.attempt === 0)) {
      const start = this.#receiveStart(delta, known);
      if (start) return start;
    } else if (known?.isComplete && known.attempt === attempt && offset <= known[part].length) {
      if (offset < known[part].length) return null;
      known[part] += text;
      return delta;
    }
    this.#answers.set(message_id, { seq: known?.seq ?? 0, attempt, text: "", reasoning: "", isComplete: false });
    this.#scheduleRequest();
    return null;
  }

  /**
   * The first delta of an answer. Null: listeners have read another part of it from the database, and what is missing is
   * unknown.
   */
  #receiveStart(delta: Delta, known: RemoteAnswer | undefined): Delta | Reset | null {
    const { conversation_id, message_id, attempt, text } = delta;
    const part = delta.part ?? "text";
    if (known && known[part === "text" ? "reasoning" : "text"] !== "") return null;
    const texts = { text: "", reasoning: "", [part]: text };
    this.#answers.set(message_id, { seq: known?.seq ?? 0, attempt, ...texts, isComplete: true });
    // Listeners may have read a part of the text from the database.
    return known?.[part] === "" ? delta : createReset({ conversation_id, message_id, attempt, ...texts });
  }

  /** Requests what is missing, unless this responds to a very recent request. */
  #scheduleRequest(): void {
    const ask = () => {
      this.#timer = undefined;
      if (!this.#hasGap()) return;
      this.#requestText();
      this.#scheduleRequest();
    };
    this.#timer ??= setTimeout(ask, Math.max(0, this.#requestedAtMs + REQUEST_INTERVAL_MS - performance.now()));
  }

  #hasGap(): boolean {
    for (const { isComplete } of this.#answers.values()) if (!isComplete) return true;
    return false;
  }

  /** The writer sends the whole text. @returns what listeners need because of it; null: they have it. */
  receiveSnapshot(snapshot: Text): Reset | null {
    if (this.#isOutdated(snapshot)) return null;
    const { conversation_id, message_id, seq, attempt, text, reasoning = "" } = snapshot;
    const known = this.#answers.get(message_id);
    const isKnown =
      known?.isComplete &&
      known.attempt === attempt &&
      known.text.length === text.length &&
      known.reasoning.length === reasoning.length;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isComplete: true });
    return isKnown ? null : createReset({ conversation_id, message_id, attempt, text, reasoning });
  }

  /** Answers whose text so far is known; an answer without any delta yet is not. */
  list(conversation_id: string): AnswerSnapshot[] {
    return [...this.#answers].flatMap(([messageId, { seq, attempt: known, text, reasoning, isComplete }]) => {
      if (!isComplete) return [];
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
