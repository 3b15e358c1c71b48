import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";

/** How long an event waits for missing earlier ones before they are read from the database. */
export const GAP_WAIT_MS = 100;
/** The longest such wait. The wait grows while the database has nothing to fill the gap. */
export const GAP_WAIT_MS_MAX = 5_000;

/** How long a listener that has newer events from another instance waits for this one. After that, some events are repeated. */
const SEQ_WAIT_MS = 3_000;
const SEQ_POLL_MS = 5;

/** An answer in progress: the attempt, and a `message.reset` frame with its text so far. */
export type Snapshot = { messageId: string; attempt: number; frame: string };

export type ChannelHooks = {
  /** Sends a serialized frame to all listeners, with its event if available. */
  send(text: string, type: string, event?: ConversationEvent): void;
  /** Called with each durable event, in order, after it was sent to all listeners. */
  onEvent(event: DurableEvent): void;
  /**
   * Called before the end of an answer is sent.
   * @returns the attempt whose text listeners need first; null if they have all text.
   */
  endAnswer(messageId: string, text: string): number | null;
  /** Reads durable events after `afterSeq` up to and including `untilSeq` from the database, in order. */
  loadEvents(afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** Finds the sequence number of the newest event in the database. */
  findLastSeq(): Promise<number>;
  /** Lists all answers in progress, each with a frame of its text so far. */
  listSnapshots(): Snapshot[];
  onFault(error: unknown): void;
};

/** A listener that is joining. Events pushed while it reads its start position are kept for it. */
export type Join = { missed: DurableEvent[]; hadStarted: boolean };

/**
 * Orders the pushes of one conversation on this instance. Durable events are pushed strictly in order of `seq`, each once. An
 * early event is held back, a late or repeated one is dropped, and a gap is filled from the database.
 */
export class Channel {
  /** The `seq` of the newest pushed event; null until the first listener has read its start position. */
  #pushedSeq: number | null = null;
  /** The `seq` of the newest event known to be stored. */
  #targetSeq = 0;
  readonly #buffered = new Map<number, DurableEvent>();
  /**
   * Answers (with their attempt) of which deltas were omitted, because their message may not have been pushed yet. Listeners get
   * the whole text once no event is missing, or before the answer's end.
   */
  readonly #awaitingSnapshot = new Map<string, number>();
  /** The number of reasons to check for stored events that weren't announced. */
  #pendingChecks = 0;
  readonly #joins = new Set<Join>();
  #gapTimer: Timer | undefined;
  #gapWaitMs = GAP_WAIT_MS;
  #isFilling = false;
  /** Whether an announced event hasn't been read yet. */
  #isUrgent = false;
  #isClosed = false;

  constructor(readonly hooks: ChannelHooks) {}

  startJoin(): Join {
    const join: Join = { missed: [], hadStarted: this.#pushedSeq !== null };
    this.#joins.add(join);
    return join;
  }

  cancelJoin(join: Join): void {
    this.#joins.delete(join);
  }

  /**
   * Whether another join has started the pushes after `readSeq`. The events in between were never pushed, so this join would miss
   * them.
   */
  isOvertaken(join: Join, readSeq: number): boolean {
    if (join.hadStarted || this.#pushedSeq === null || readSeq >= this.#pushedSeq) return false;
    return !join.missed.some(({ seq }) => seq === readSeq + 1);
  }

  /**
   * Completes a join at `readSeq`, the position that was read from the database after `startJoin`. Synchronously calls `welcome`
   * with the position from which pushes continue and the events between `readSeq` and that position, and then begins the pushes.
   * @param catchUp sends the new listener the text so far of answers. If that has to wait, all listeners get it later instead.
   */
  finishJoin(
    join: Join,
    readSeq: number,
    welcome: (lastSeq: number, missed: DurableEvent[]) => void,
    catchUp: () => void,
  ): void {
    this.#joins.delete(join);
    const isFirst = this.#pushedSeq === null;
    this.#pushedSeq ??= readSeq;
    const lastSeq = this.#pushedSeq;
    welcome(
      lastSeq,
      join.missed.filter((event) => event.seq > readSeq),
    );
    // The database may be ahead of the pushes. If the missing events were lost, nothing else would notice.
    this.#targetSeq = Math.max(this.#targetSeq, readSeq);
    this.#pushBuffered();
    if (this.#isWaiting()) {
      // The text of a message must not be pushed before the message itself.
      for (const { messageId, attempt } of this.hooks.listSnapshots()) this.#awaitingSnapshot.set(messageId, attempt);
    } else {
      if (isFirst) this.#awaitingSnapshot.clear();
      catchUp();
    }
    this.#settle();
  }

  publish(event: DurableEvent): void {
    if (this.#pushedSeq !== null && event.seq <= this.#pushedSeq) return;
    if (event.seq === (this.#pushedSeq ?? Number.NaN) + 1 && this.#buffered.size === 0) this.#push(event);
    else this.#buffered.set(event.seq, event);
    this.#pushBuffered();
    this.#settle();
  }

  publishFrame(event: EphemeralEvent): void {
    const isText = event.type === "message.delta" || event.type === "message.reset";
    if (isText && (this.#pushedSeq === null || this.#isWaiting()))
      this.#awaitingSnapshot.set(event.message_id, event.attempt);
    else this.#send(event);
  }

  /** Checks for stored events after the last push, because events may have been lost. */
  checkForMissed(): void {
    this.#pendingChecks += 1;
    this.#settle();
  }

  /** Reads an event immediately that is known to be stored, but whose content isn't known. */
  announce(seq: number): void {
    if (this.hasPushed(seq) || seq <= this.#targetSeq) return;
    this.#targetSeq = seq;
    this.#isUrgent = true;
    if (!this.#isFilling) {
      clearTimeout(this.#gapTimer);
      this.#gapTimer = undefined;
    }
    this.#settle();
  }

  /** Waits until everything up to a stored event has been pushed. The event is soon read if it doesn't arrive. */
  async waitForSeq(seq: number): Promise<void> {
    const isBehind = () => this.#pushedSeq !== null && this.#pushedSeq < seq && !this.#isClosed;
    if (!isBehind()) return;
    this.#targetSeq = Math.max(this.#targetSeq, seq);
    this.#settle();
    const endMs = performance.now() + SEQ_WAIT_MS;
    while (isBehind() && performance.now() < endMs) await Bun.sleep(SEQ_POLL_MS);
  }

  /** Whether the first listener has read its start position. */
  get hasStarted(): boolean {
    return this.#pushedSeq !== null;
  }

  /** Whether this event has been pushed. */
  hasPushed(seq: number): boolean {
    return this.#pushedSeq !== null && this.#pushedSeq >= seq;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#gapTimer);
    this.#buffered.clear();
  }

  /** Whether events before known ones are missing. */
  #isWaiting(): boolean {
    return (
      this.#pendingChecks > 0 ||
      this.#buffered.size > 0 ||
      this.#targetSeq > (this.#pushedSeq ?? Number.POSITIVE_INFINITY)
    );
  }

  #send(event: ConversationEvent): void {
    this.hooks.send(JSON.stringify(event), event.type, event);
  }

  #push(event: DurableEvent): void {
    this.#pushedSeq = event.seq;
    this.#gapWaitMs = GAP_WAIT_MS;
    for (const join of this.#joins) join.missed.push(event);
    if (event.type === "message.completed") this.#pushFinalText(event);
    this.#send(event);
    this.hooks.onEvent(event);
  }

  /** Sends an answer's text before its end, if deltas were omitted or never arrived. */
  #pushFinalText({ conversation_id, data }: DurableEvent<"message.completed">): void {
    const message_id = data.id;
    const attempt = Math.max(
      this.#awaitingSnapshot.get(message_id) ?? 0,
      this.hooks.endAnswer(message_id, data.content) ?? 0,
    );
    if (attempt === 0) return;
    this.#awaitingSnapshot.delete(message_id);
    const { content: text, reasoning } = data;
    const reset = { type: "message.reset", conversation_id, message_id, attempt, text } as const;
    this.#send(reasoning === null ? reset : { ...reset, reasoning });
  }

  /** Pushes the events that follow the last push. */
  #pushBuffered(): void {
    if (this.#pushedSeq === null || this.#isClosed) return;
    for (const seq of this.#buffered.keys()) if (seq <= this.#pushedSeq) this.#buffered.delete(seq);
    for (;;) {
      const next = this.#buffered.get(this.#pushedSeq + 1);
      if (!next) break;
      this.#buffered.delete(next.seq);
      this.#push(next);
    }
  }

  /** Reads missing events step by step. Once none is missing, sends the omitted text of answers. */
  #settle(): void {
    if (this.#pushedSeq === null || this.#isClosed) return;
    if (this.#isWaiting()) {
      this.#gapTimer ??= setTimeout(() => this.#fillGap(), this.#isUrgent ? 0 : this.#gapWaitMs);
    } else if (this.#awaitingSnapshot.size > 0) {
      for (const { messageId, frame } of this.hooks.listSnapshots())
        if (this.#awaitingSnapshot.has(messageId)) this.hooks.send(frame, "message.reset");
      this.#awaitingSnapshot.clear();
    }
  }

  async #fillGap(): Promise<void> {
    // If nothing is found (the database is unavailable, or the conversation was deleted), the next attempt waits longer.
    this.#gapWaitMs = Math.min(this.#gapWaitMs * 2, GAP_WAIT_MS_MAX);
    this.#isUrgent = false;
    this.#isFilling = true;
    try {
      if (this.#pushedSeq === null) return;
      const checks = this.#pendingChecks;
      if (checks > 0) {
        this.#targetSeq = Math.max(this.#targetSeq, await this.hooks.findLastSeq());
        // Another reason to check has come up meanwhile.
        this.#pendingChecks -= checks;
      }
      const untilSeq = Math.max(this.#targetSeq, ...this.#buffered.keys());
      if (untilSeq <= this.#pushedSeq) return;
      for (const event of await this.hooks.loadEvents(this.#pushedSeq, untilSeq)) this.#buffered.set(event.seq, event);
    } catch (error) {
      this.hooks.onFault(error);
    } finally {
      this.#isFilling = false;
      this.#gapTimer = undefined;
      this.#pushBuffered();
      this.#settle();
    }
  }
}
