import type { EphemeralEvent } from "../../protocol/events.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { FlushScheduler } from "./flush-scheduler.ts";

/** Most text of one delta, in UTF-16 units. Even if JSON escapes every unit, its frame stays below 64 KiB. */
const DELTA_CHARS_MAX = 10_000;

export type LiveAnswerOptions = {
  conversationId: string;
  messageId: string;
  /** The message's own number. */
  seq: number;
  attempt: number;
  /** The text and reasoning from before it was taken over. */
  text: string;
  reasoning: string;
  /** Whether its reasoning is stored, or only pushed. */
  storesReasoning: boolean;
  bus: Pick<Bus, "publish">;
  /** Batches its pushes with those of other answers. */
  flushes: FlushScheduler;
};

/** A stored piece of an answer: the `n`th of an attempt, starting at 1. */
export type LivePiece = { attempt: number; n: number; text: string; reasoning: string };

/**
 * The text and reasoning of an answer in progress. `text` and `reasoning` are what readers have received: a new reader gets
 * them and continues with the next delta, without gaps or repeats.
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
  /** Stored pieces of the attempt; zero: the whole text is still to be stored. */
  #storedPieces = 0;
  /** Length of the text and the reasoning in these pieces. */
  #storedLength = 0;
  #storedReasoningLength = 0;
  #isWaiting = false;
  #flushedAtMs = Number.NEGATIVE_INFINITY;
  readonly #storesReasoning: boolean;
  readonly #bus: Pick<Bus, "publish">;
  readonly #flushes: FlushScheduler;

  constructor({
    conversationId,
    messageId,
    seq,
    attempt,
    text,
    reasoning,
    storesReasoning,
    bus,
    flushes,
  }: LiveAnswerOptions) {
    this.conversationId = conversationId;
    this.messageId = messageId;
    this.seq = seq;
    this.attempt = attempt;
    this.text = text;
    this.reasoning = reasoning;
    this.#storesReasoning = storesReasoning;
    this.#bus = bus;
    this.#flushes = flushes;
  }

  append(text: string): void {
    this.#pending += text;
    if (!this.#isWaiting) this.#flushSoon();
  }

  appendReasoning(text: string): void {
    this.#pendingReasoning += text;
    if (!this.#isWaiting) this.#flushSoon();
  }

  #flushSoon(): void {
    this.#isWaiting = performance.now() - this.#flushedAtMs < this.#flushes.ms();
    if (this.#isWaiting) this.#flushes.wait(this);
    else this.flush();
  }

  /** Pushes everything received since the last push. */
  flush(): void {
    if (this.#isWaiting) this.#flushes.forget(this);
    this.#isWaiting = false;
    if (this.#pendingReasoning !== "") this.#flushReasoning();
    if (this.#pending === "") return;
    const text = this.#pending;
    this.#pending = "";
    this.#flushedAtMs = performance.now();
    for (let start = 0; start < text.length; ) {
      const end = findCut(text, start + DELTA_CHARS_MAX);
      this.#push(text.slice(start, end));
      start = end;
    }
  }

  #flushReasoning(): void {
    const text = this.#pendingReasoning;
    this.#pendingReasoning = "";
    this.#flushedAtMs = performance.now();
    for (let start = 0; start < text.length; ) {
      const end = findCut(text, start + DELTA_CHARS_MAX);
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

  /** The reasoning that is stored: all or nothing. */
  get storedReasoning(): string {
    return this.#storesReasoning ? this.reasoning : "";
  }

  /** Another attempt continues from `text` and `reasoning`. */
  reset(text: string, reasoning: string, attempt: number): void {
    this.flush();
    this.begin(attempt);
    this.text = text;
    this.reasoning = reasoning;
    this.#bus.publish(this.conversationId, () => [this.snapshot()]);
  }

  /** Starts an attempt; its text is stored under its number. */
  begin(attempt: number): void {
    if (attempt === this.attempt) return;
    this.attempt = attempt;
    this.#storedPieces = 0;
    this.#storedLength = 0;
    this.#storedReasoningLength = 0;
  }

  /** The text and reasoning since the last stored piece; null if there is nothing new. */
  nextPiece(): LivePiece | null {
    const piece = this.#createPiece(
      this.text.slice(this.#storedLength),
      this.storedReasoning.slice(this.#storedReasoningLength),
    );
    return piece.text === "" && piece.reasoning === "" ? null : piece;
  }

  /** The next piece, empty: it only records the attempt. */
  emptyPiece(): LivePiece {
    return this.#createPiece("", "");
  }

  /** A piece that stores a reset to this text and reasoning, before readers see it. */
  createResetPiece(text: string, reasoning: string, attempt: number): LivePiece {
    return { attempt, n: 1, text, reasoning: this.#storesReasoning ? reasoning : "" };
  }

  #createPiece(text: string, reasoning: string): LivePiece {
    return { attempt: this.attempt, n: this.#storedPieces + 1, text, reasoning };
  }

  /** The next piece is committed. If another attempt has begun since, it is stored from its beginning. */
  confirm({ attempt, n, text, reasoning }: LivePiece): void {
    if (attempt !== this.attempt) return;
    this.#storedPieces = n;
    this.#storedLength += text.length;
    this.#storedReasoningLength += reasoning.length;
  }

  /** A snapshot that brings a new reader up to date. */
  snapshot(): Extract<EphemeralEvent, { type: "message.reset" }> {
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

/** Never splits a surrogate pair. */
function findCut(text: string, end: number): number {
  if (end >= text.length) return text.length;
  return (text.charCodeAt(end) & 0xfc00) === 0xdc00 ? end - 1 : end;
}
