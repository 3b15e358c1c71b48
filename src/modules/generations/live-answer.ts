import type { EphemeralEvent } from "../../protocol/events.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { FlushScheduler } from "./flush-scheduler.ts";

/** Maximum length of a delta, in UTF-16 code units. Even if JSON escapes every unit, the frame stays below 64 KiB. */
const DELTA_CHARS_MAX = 10_000;

export type LiveAnswerOptions = {
  conversationId: string;
  messageId: string;
  /** The message's `seq`. */
  seq: number;
  attempt: number;
  /** The text and reasoning from before a takeover. */
  text: string;
  reasoning: string;
  /** Whether the reasoning is stored, or only pushed. */
  shouldStoreReasoning: boolean;
  bus: Pick<Bus, "publish">;
  /** Batches this answer's pushes with other answers' pushes. */
  flushScheduler: FlushScheduler;
};

/** A piece of an answer to store. `n` is its number in the attempt, starting at 1. */
export type LivePiece = { attempt: number; n: number; text: string; reasoning: string };

/**
 * The text and reasoning of an answer in progress. `text` and `reasoning` contain what has been pushed to readers. A new reader receives
 * both and continues with the next delta.
 */
export class LiveAnswer {
  readonly conversationId: string;
  readonly messageId: string;
  readonly seq: number;
  attempt: number;
  text: string;
  reasoning: string;
  #pending = "";
  #pendingReasoning = "";
  /** The number of stored pieces of the attempt. If zero, the whole text must still be stored. */
  #storedPieces = 0;
  /** The length of the text in the stored pieces. */
  #storedLength = 0;
  /** The length of the reasoning in the stored pieces. */
  #storedReasoningLength = 0;
  #isScheduled = false;
  #flushedAtMs = Number.NEGATIVE_INFINITY;
  readonly #shouldStoreReasoning: boolean;
  readonly #bus: Pick<Bus, "publish">;
  readonly #flushScheduler: FlushScheduler;

  constructor({
    conversationId,
    messageId,
    seq,
    attempt,
    text,
    reasoning,
    shouldStoreReasoning,
    bus,
    flushScheduler,
  }: LiveAnswerOptions) {
    this.conversationId = conversationId;
    this.messageId = messageId;
    this.seq = seq;
    this.attempt = attempt;
    this.text = text;
    this.reasoning = reasoning;
    this.#shouldStoreReasoning = shouldStoreReasoning;
    this.#bus = bus;
    this.#flushScheduler = flushScheduler;
  }

  append(text: string): void {
    this.#pending += text;
    if (!this.#isScheduled) this.#flushSoon();
  }

  appendReasoning(text: string): void {
    this.#pendingReasoning += text;
    if (!this.#isScheduled) this.#flushSoon();
  }

  #flushSoon(): void {
    this.#isScheduled = performance.now() - this.#flushedAtMs < this.#flushScheduler.getIntervalMs();
    if (this.#isScheduled) this.#flushScheduler.schedule(this);
    else this.flush();
  }

  /** Pushes all text and reasoning received since the last push. */
  flush(): void {
    if (this.#isScheduled) this.#flushScheduler.cancel(this);
    this.#isScheduled = false;
    if (this.#pendingReasoning !== "") this.#flushReasoning();
    if (this.#pending === "") return;
    const text = this.#pending;
    this.#pending = "";
    this.#flushedAtMs = performance.now();
    for (let start = 0; start < text.length; ) {
      const end = findSplitIndex(text, start + DELTA_CHARS_MAX);
      this.#push(text.slice(start, end));
      start = end;
    }
  }

  #flushReasoning(): void {
    const text = this.#pendingReasoning;
    this.#pendingReasoning = "";
    this.#flushedAtMs = performance.now();
    for (let start = 0; start < text.length; ) {
      const end = findSplitIndex(text, start + DELTA_CHARS_MAX);
      this.#pushReasoning(text.slice(start, end));
      start = end;
    }
  }

  #push(text: string): void {
    const offset = this.text.length;
    this.text += text;
    const { conversationId, messageId, attempt } = this;
    this.#bus.publish(conversationId, () => [
      { type: "message.delta", conversation_id: conversationId, message_id: messageId, attempt, offset, text },
    ]);
  }

  #pushReasoning(text: string): void {
    const offset = this.reasoning.length;
    this.reasoning += text;
    const { conversationId, messageId, attempt } = this;
    this.#bus.publish(conversationId, () => [
      { type: "answer.reasoning", conversation_id: conversationId, message_id: messageId, attempt, offset, text },
    ]);
  }

  /** The reasoning if it is stored, or an empty string. */
  get storedReasoning(): string {
    return this.#shouldStoreReasoning ? this.reasoning : "";
  }

  /** Starts a new attempt, which continues from this text and reasoning. */
  reset(text: string, reasoning: string, attempt: number): void {
    this.flush();
    this.startAttempt(attempt);
    this.text = text;
    this.reasoning = reasoning;
    this.#bus.publish(this.conversationId, () => [this.createSnapshot()]);
  }

  /** Starts an attempt. Its pieces are stored under its number. */
  startAttempt(attempt: number): void {
    if (attempt === this.attempt) return;
    this.attempt = attempt;
    this.#storedPieces = 0;
    this.#storedLength = 0;
    this.#storedReasoningLength = 0;
  }

  /** Creates a piece with the text and reasoning since the last stored piece. Returns null if there is nothing new. */
  createNextPiece(): LivePiece | null {
    const piece = this.#createPiece(
      this.text.slice(this.#storedLength),
      this.storedReasoning.slice(this.#storedReasoningLength),
    );
    return piece.text === "" && piece.reasoning === "" ? null : piece;
  }

  /** Creates a piece without text, which only records the attempt. */
  createEmptyPiece(): LivePiece {
    return this.#createPiece("", "");
  }

  /** Creates the piece that stores a reset to this text and reasoning. It must be stored before the reset is pushed. */
  createResetPiece(text: string, reasoning: string, attempt: number): LivePiece {
    return { attempt, n: 1, text, reasoning: this.#shouldStoreReasoning ? reasoning : "" };
  }

  #createPiece(text: string, reasoning: string): LivePiece {
    return { attempt: this.attempt, n: this.#storedPieces + 1, text, reasoning };
  }

  /** Records that a piece is committed. Does nothing if a new attempt has started since then. */
  confirmStored({ attempt, n, text, reasoning }: LivePiece): void {
    if (attempt !== this.attempt) return;
    this.#storedPieces = n;
    this.#storedLength += text.length;
    this.#storedReasoningLength += reasoning.length;
  }

  /** Creates the `message.reset` event that brings a new reader up to date. */
  createSnapshot(): Extract<EphemeralEvent, { type: "message.reset" }> {
    const { conversationId: conversation_id, messageId: message_id, attempt, text, reasoning } = this;
    return {
      type: "message.reset",
      conversation_id,
      message_id,
      attempt,
      text,
      ...(reasoning !== "" && { reasoning }),
    };
  }
}

/** Returns the last index up to `end` at which the text can be split without breaking a surrogate pair. */
function findSplitIndex(text: string, end: number): number {
  if (end >= text.length) return text.length;
  return (text.charCodeAt(end) & 0xfc00) === 0xdc00 ? end - 1 : end;
}
