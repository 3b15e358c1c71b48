import type { EphemeralEvent } from "../protocol/events.ts";
import type { ConversationMessage } from "./bus.ts";
import type { Snapshot } from "./channel.ts";

type Delta = EphemeralEvent<"message.delta">;
type Reset = EphemeralEvent<"message.reset">;
type AnswerText = Extract<ConversationMessage, { type: "answer.text" }>;
/** `seq` is the message's sequence number, or 0 while it is unknown. `isComplete` is false while a delta is missing. */
type RemoteAnswer = { seq: number; attempt: number; text: string; reasoning: string; isComplete: boolean };

/** The maximum number of ended answers to remember per conversation, so that late messages about them are recognized. */
const ENDED_ANSWERS_MAX = 100;

/** An answer in progress, with its text and reasoning so far. */
export type AnswerSnapshot = Snapshot & { seq: number; text: string; reasoning: string };

/** The minimum interval between requests for the text of answers with gaps. */
const REQUEST_INTERVAL_MS = 500;

/**
 * Assembles the text and reasoning of answers that other instances write in one conversation. Listeners receive each delta once. A new
 * listener receives the text so far.
 */
export class RemoteAnswers {
  readonly #answers = new Map<string, RemoteAnswer>();
  /**
   * Answers that have ended or that this instance writes, each with an attempt. Other instances' messages about that attempt or an earlier
   * one are outdated.
   */
  readonly #endedAttempts = new Map<string, number>();
  readonly #requestText: () => void;
  #requestedAtMs = Number.NEGATIVE_INFINITY;
  #timer: Timer | undefined;

  /** @param requestText requests the text so far from the instances that write it. Pass their responses to `receiveSnapshot`. */
  constructor(requestText: () => void) {
    this.#requestText = requestText;
  }

  /** Records that the text was requested, so that the next request waits for the interval. */
  markRequested(): void {
    this.#requestedAtMs = performance.now();
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  /** Records a new answer. If its message was read from the database, it may already have some text. */
  begin(messageId: string, seq: number, text: string, reasoning: string): void {
    const answer = this.#answers.get(messageId);
    if (answer) answer.seq = seq;
    else this.#answers.set(messageId, { seq, attempt: 0, text, reasoning, isComplete: true });
  }

  /**
   * Records that an answer has ended with this text.
   * @returns the attempt for a `message.reset` with the text, or null if listeners already have it or this instance wrote it.
   */
  end(messageId: string, text: string): number | null {
    const answer = this.#answers.get(messageId);
    this.#markEnded(messageId, Number.POSITIVE_INFINITY);
    if (!answer || (answer.isComplete && answer.text === text)) return null;
    return Math.max(1, answer.attempt);
  }

  #markEnded(messageId: string, attempt: number): void {
    this.#answers.delete(messageId);
    this.#endedAttempts.delete(messageId);
    this.#endedAttempts.set(messageId, attempt);
    if (this.#endedAttempts.size > ENDED_ANSWERS_MAX)
      this.#endedAttempts.delete(this.#endedAttempts.keys().next().value ?? messageId);
  }

  /** Receives a delta or reset. @returns the event to send to listeners, or null if they don't need it or an earlier delta is missing. */
  receive(message: Delta | Reset, isRemote: boolean): Delta | Reset | null {
    if (!isRemote) return this.#receiveOwn(message) ? message : null;
    if (this.#isOutdated(message)) return null;
    if (message.type === "message.delta") return this.#receiveDelta(message);
    const { message_id, attempt, text, reasoning = "" } = message;
    const seq = this.#answers.get(message_id)?.seq ?? 0;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isComplete: true });
    return message;
  }

  /**
   * Receives an event of an answer that this instance writes. The instance may have just taken the answer over, or may have lost its lease
   * without knowing. @returns whether to send the event to listeners.
   */
  #receiveOwn({ message_id, attempt }: Delta | Reset): boolean {
    const answer = this.#answers.get(message_id);
    if ((answer?.attempt ?? 0) > attempt || this.#endedAttempts.get(message_id) === Number.POSITIVE_INFINITY)
      return false;
    if (answer) this.#markEnded(message_id, attempt);
    return true;
  }

  /** Returns whether a message is from an instance that was frozen while another instance continued or finished the answer. */
  #isOutdated({ message_id, attempt }: Delta | Reset | AnswerText): boolean {
    if (attempt <= (this.#endedAttempts.get(message_id) ?? 0)) return true;
    return attempt < (this.#answers.get(message_id)?.attempt ?? 0);
  }

  #receiveDelta(delta: Delta): Delta | Reset | null {
    const { message_id, attempt, offset, text } = delta;
    const part = delta.part ?? "text";
    const answer = this.#answers.get(message_id);
    if (offset === 0 && (answer === undefined || answer.attempt === 0)) {
      const start = this.#receiveStart(delta, answer);
      if (start) return start;
    } else if (answer?.isComplete && answer.attempt === attempt && offset <= answer[part].length) {
      if (offset < answer[part].length) return null;
      answer[part] += text;
      return delta;
    }
    this.#answers.set(message_id, { seq: answer?.seq ?? 0, attempt, text: "", reasoning: "", isComplete: false });
    this.#scheduleRequest();
    return null;
  }

  /**
   * Handles an answer's first delta. Returns null if listeners may already have read more from the database. In that case, it is unknown
   * what they are missing.
   */
  #receiveStart(delta: Delta, answer: RemoteAnswer | undefined): Delta | Reset | null {
    const { conversation_id, message_id, attempt, text } = delta;
    const part = delta.part ?? "text";
    if (answer && answer[part === "text" ? "reasoning" : "text"] !== "") return null;
    const textFields = { text: "", reasoning: "", [part]: text };
    this.#answers.set(message_id, { seq: answer?.seq ?? 0, attempt, ...textFields, isComplete: true });
    // Listeners may have read some of the text from the database.
    return answer?.[part] === "" ? delta : createReset({ conversation_id, message_id, attempt, ...textFields });
  }

  #scheduleRequest(): void {
    const requestIfIncomplete = () => {
      this.#timer = undefined;
      if (!this.#hasGap()) return;
      this.#requestText();
      this.#scheduleRequest();
    };
    this.#timer ??= setTimeout(
      requestIfIncomplete,
      Math.max(0, this.#requestedAtMs + REQUEST_INTERVAL_MS - performance.now()),
    );
  }

  #hasGap(): boolean {
    for (const { isComplete } of this.#answers.values()) if (!isComplete) return true;
    return false;
  }

  /** Receives the whole text so far. @returns a reset for the listeners, or null if they already have the text. */
  receiveSnapshot(snapshot: AnswerText): Reset | null {
    if (this.#isOutdated(snapshot)) return null;
    const { conversation_id, message_id, seq, attempt, text, reasoning = "" } = snapshot;
    const answer = this.#answers.get(message_id);
    const isUnchanged =
      answer?.isComplete &&
      answer.attempt === attempt &&
      answer.text.length === text.length &&
      answer.reasoning.length === reasoning.length;
    this.#answers.set(message_id, { seq, attempt, text, reasoning, isComplete: true });
    return isUnchanged ? null : createReset({ conversation_id, message_id, attempt, text, reasoning });
  }

  /** Lists the answers whose whole text so far is known. */
  list(conversation_id: string): AnswerSnapshot[] {
    return [...this.#answers].flatMap(([messageId, { seq, attempt: lastAttempt, text, reasoning, isComplete }]) => {
      if (!isComplete) return [];
      const attempt = Math.max(1, lastAttempt);
      const reset = createReset({ conversation_id, message_id: messageId, attempt, text, reasoning });
      return [{ messageId, seq, attempt, text, reasoning, frame: JSON.stringify(reset) }];
    });
  }
}

const createReset = ({ reasoning, ...reset }: Omit<AnswerText, "type" | "seq">): Reset => ({
  type: "message.reset",
  ...reset,
  ...(reasoning && { reasoning }),
});
