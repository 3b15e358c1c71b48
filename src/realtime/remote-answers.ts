import type { EphemeralEvent } from "../protocol/events.ts";
import type { ConversationMessage } from "./bus.ts";
import type { Snapshot } from "./channel.ts";

type Delta = EphemeralEvent<"message.delta">;
type Reset = EphemeralEvent<"message.reset">;
type Text = Extract<ConversationMessage, { type: "answer.text" }>;
/** `seq` is the sequence number of the message; 0 while unknown. `isComplete`: no earlier push is missing. */
type RemoteAnswer = { seq: number; attempt: number; text: string; reasoning: string; isComplete: boolean };

/** The maximum number of ended answers to remember per conversation, so that late messages about them are recognized. */
const ENDED_MAX = 100;

/** An answer in progress with its text and reasoning so far, for a new listener. */
export type AnswerSnapshot = Snapshot & { seq: number; text: string; reasoning: string };

/** While an answer has a gap, its text is requested at most this often. */
const REQUEST_INTERVAL_MS = 500;

/**
 * The text and reasoning so far of answers that other instances write in one conversation, assembled from deltas. Listeners get
 * each piece once, and a new listener gets the text so far.
 */
export class RemoteAnswers {
  readonly #answers = new Map<string, RemoteAnswer>();
  /** For answers that ended or that this instance writes: the attempt up to which other instances' messages are outdated. */
  readonly #ended = new Map<string, number>();
  readonly #requestText: () => void;
  #requestedAtMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  /** @param requestText requests the text so far from the writers. Their responses must be passed to `receiveSnapshot`. */
  constructor(requestText: () => void) {
    this.#requestText = requestText;
  }

  /** Records that the writers were asked for the text, for whatever reason. */
  markRequested(): void {
    this.#requestedAtMs = performance.now();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  /** Begins an answer. If its message was read from the database, it already has a part of its text. */
  begin(messageId: string, seq: number, text: string, reasoning: string): void {
    const known = this.#answers.get(messageId);
    if (known) known.seq = seq;
    else this.#answers.set(messageId, { seq, attempt: 0, text, reasoning, isComplete: true });
  }

  /**
   * Ends an answer with its final text.
   * @returns the attempt whose text listeners need first; null if they have it, or this instance wrote it.
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

  /** Receives a delta or reset. @returns what to send to listeners; if another instance writes, only what follows their text. */
  receive(message: Delta | Reset, isRemote: boolean): Delta | Reset | null {
    if (!isRemote) return this.#receiveOwn(message) ? message : null;
    if (this.#isOutdated(message)) return null;
    if (message.type === "message.delta") return this.#receiveDelta(message);
    const { message_id, attempt, text, reasoning = "" } = message;
    const seq = this.#answers.get(message_id)?.seq ?? 0;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isComplete: true });
    return message;
  }

  /** Handles an answer of this instance, which may have taken it over, or may not know yet that another one did. */
  #receiveOwn({ message_id, attempt }: Delta | Reset): boolean {
    const known = this.#answers.get(message_id);
    if ((known?.attempt ?? 0) > attempt || this.#ended.get(message_id) === Number.POSITIVE_INFINITY) return false;
    if (known) this.#markEnded(message_id, attempt);
    return true;
  }

  /** Whether a message comes from an instance that was frozen while another one continued or ended its answer. */
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
   * Handles the first delta that arrives of an answer. Returns null if listeners have read a part from the database that doesn't
   * match it, so that it is unknown what is missing.
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

  /** Requests the missing text, but not too often. */
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

  /** Receives the whole text from the writer. @returns what listeners need because of it; null if nothing. */
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

  /** Lists answers whose text so far is known. An answer without a delta isn't included. */
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
