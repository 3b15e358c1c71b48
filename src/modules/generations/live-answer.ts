import type { EphemeralEvent } from "../../protocol/events.ts";
import type { Bus } from "../../realtime/bus.ts";
import type { FlushScheduler } from "./flush-scheduler.ts";

/** Most text of one delta, in UTF-16 units: even if JSON escapes each of them, its frame stays below 64 KiB. */
const DELTA_CHARS_MAX = 10_000;

export type LiveAnswerOptions = {
  conversationId: string;
  messageId: string;
  /** The message's own number. */
  seq: number;
  attempt: number;
  /** What was written before it was taken over, and what was thought. */
  text: string;
  reasoning: string;
  /** Whether its reasoning may be stored, or is only pushed. */
  storesReasoning: boolean;
  bus: Pick<Bus, "publish">;
  /** Pushes pieces that follow each other soon together with those of other answers. */
  flushes: FlushScheduler;
};

/** A piece of an answer as it is stored: the `n`th of an attempt, from 1 on. */
export type LivePiece = { attempt: number; n: number; text: string; reasoning: string };

/**
 * The text of an answer while it is written, and what the model thinks. `text` and `reasoning` are what readers have been
 * pushed: one who comes now gets them, and goes on with the next delta, without a gap and without a repeat.
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
  /** Pieces of the attempt that are in the database; none: its text is still to be stored as a whole. */
  #storedPieces = 0;
  /** Length of the text in these pieces, and of the reasoning. */
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

  /** Adds what the model thinks. */
  think(text: string): void {
    this.#pendingReasoning += text;
    if (!this.#isWaiting) this.#flushSoon();
  }

  #flushSoon(): void {
    this.#isWaiting = performance.now() - this.#flushedAtMs < this.#flushes.ms();
    if (this.#isWaiting) this.#flushes.wait(this);
    else this.flush();
  }

  /** Pushes what has come in since the last push. */
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

  /** What is stored of the reasoning: all of it, or nothing. */
  get storedReasoning(): string {
    return this.#storesReasoning ? this.reasoning : "";
  }

  /** Another attempt goes on from `text`, and from `reasoning`. */
  reset(text: string, reasoning: string, attempt: number): void {
    this.flush();
    this.begin(attempt);
    this.text = text;
    this.reasoning = reasoning;
    this.#bus.publish(this.conversationId, () => [this.snapshot()]);
  }

  /** An attempt begins; what it writes is stored under its number. */
  begin(attempt: number): void {
    if (attempt === this.attempt) return;
    this.attempt = attempt;
    this.#storedPieces = 0;
    this.#storedLength = 0;
    this.#storedReasoningLength = 0;
  }

  /** What follows the text and the reasoning that are stored; null when there is nothing new. */
  nextPiece(): LivePiece | null {
    const piece = this.#createPiece(
      this.text.slice(this.#storedLength),
      this.storedReasoning.slice(this.#storedReasoningLength),
    );
    return piece.text === "" && piece.reasoning === "" ? null : piece;
  }

  /** The next piece, with nothing in it: it only tells of the attempt. */
  emptyPiece(): LivePiece {
    return this.#createPiece("", "");
  }

  /** The piece that stores a reset to this text and reasoning, before readers see it. */
  createResetPiece(text: string, reasoning: string, attempt: number): LivePiece {
    return { attempt, n: 1, text, reasoning: this.#storesReasoning ? reasoning : "" };
  }

  #createPiece(text: string, reasoning: string): LivePiece {
    return { attempt: this.attempt, n: this.#storedPieces + 1, text, reasoning };
  }

  /** The next piece is committed. An attempt that began in the meantime is stored from its beginning. */
  confirm({ attempt, n, text, reasoning }: LivePiece): void {
    if (attempt !== this.attempt) return;
    this.#storedPieces = n;
    this.#storedLength += text.length;
    this.#storedReasoningLength += reasoning.length;
  }

  /** What brings a new reader to where the others are. */
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

/** Never between the halves of a surrogate pair. */
function findCut(text: string, end: number): number {
  if (end >= text.length) return text.length;
  return (text.charCodeAt(end) & 0xfc00) === 0xdc00 ? end - 1 : end;
}
