import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";

/** How long an event waits for missing predecessors before they are read from the database. */
export const GAP_WAIT_MS = 100;
/** The wait grows up to this while the database has nothing to fill the gap. */
export const GAP_WAIT_MS_MAX = 5_000;

/** How long a listener who is ahead, from another instance, waits for this one; after that some events repeat. */
const SEQ_WAIT_MS = 3_000;
const SEQ_POLL_MS = 5;

/** An answer in progress: the attempt, and a `message.reset` frame with its text so far. */
export type Snapshot = { messageId: string; attempt: number; frame: string };

export type ChannelHooks = {
  /** Sends a serialized frame to all listeners; with its event, if available. */
  send(text: string, type: string, event?: ConversationEvent): void;
  /** Called with each durable event in order, after all listeners were sent it. */
  onEvent(event: DurableEvent): void;
  /**
   * Called before the end of an answer is sent.
   * @returns the attempt whose text listeners need first; null: they have it.
   */
  endAnswer(messageId: string, text: string): number | null;
  /** Reads durable events from the database: those after `afterSeq`, up to and including `untilSeq`, in order. */
  loadEvents(afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** The number of the newest event in the database. */
  findLastSeq(): Promise<number>;
  /** Every answer in progress, with a frame of its text so far. */
  listSnapshots(): Snapshot[];
  onFault(error: unknown): void;
};

/** A listener about to join: events pushed while it reads its start position are kept for it. */
export type Join = { missed: DurableEvent[]; hadStarted: boolean };

/**
 * Orders the pushes of one conversation on this instance. Durable events go out strictly by `seq`, each once: an early one
 * is held, a late or repeated one is dropped, a gap is filled from the database.
 */
export class Channel {
  /** The newest event that listeners have; null until the first of them has read its start position. */
  #pushedSeq: number | null = null;
  /** The newest event known to be stored. */
  #targetSeq = 0;
  readonly #buffered = new Map<number, DurableEvent>();
  /**
   * Answers (with their attempt) with omitted pieces, because their message may still be held. Listeners get the whole text
   * once nothing is missing, or before the end of the answer.
   */
  readonly #awaitingSnapshot = new Map<string, number>();
  /** Above 0, unannounced events may be stored; counts the reasons to check. */
  #pendingChecks = 0;
  readonly #joins = new Set<Join>();
  #gapTimer: Timer | undefined;
  #gapWaitMs = GAP_WAIT_MS;
  #isFilling = false;
  /** An event was announced, and no read has tried to fetch it yet. */
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
   * Whether another join started the pushes behind `readSeq`: events between the two were never pushed, and a join ending
   * there would miss them.
   */
  isOvertaken(join: Join, readSeq: number): boolean {
    if (join.hadStarted || this.#pushedSeq === null || readSeq >= this.#pushedSeq) return false;
    return !join.missed.some(({ seq }) => seq === readSeq + 1);
  }

  /**
   * Completes a join at `readSeq`, the position read from the database after `startJoin`. In one tick: `welcome` gets the
   * position from which pushes continue, and the events between `readSeq` and there; then pushes begin.
   * @param catchUp sends the new listener the text so far of answers; if that has to wait, all listeners get it.
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
    // The database may be ahead of the pushes; if the push of the rest got lost, nothing else would notice.
    this.#targetSeq = Math.max(this.#targetSeq, readSeq);
    this.#pushBuffered();
    if (this.#isWaiting()) {
      // The text of a message can only follow its own push.
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

  /** Events may have been lost: checks for stored events after the last push. */
  checkForMissed(): void {
    this.#pendingChecks += 1;
    this.#settle();
  }

  /** An event is known to be stored, but not its content: reads it immediately. */
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

  /** Waits until listeners have everything up to a stored event. It is read soon if it doesn't arrive. */
  async waitForSeq(seq: number): Promise<void> {
    const isBehind = () => this.#pushedSeq !== null && this.#pushedSeq < seq && !this.#isClosed;
    if (!isBehind()) return;
    this.#targetSeq = Math.max(this.#targetSeq, seq);
    this.#settle();
    const endMs = performance.now() + SEQ_WAIT_MS;
    while (isBehind() && performance.now() < endMs) await Bun.sleep(SEQ_POLL_MS);
  }

  /** Whether a first listener has read its start position. */
  get hasStarted(): boolean {
    return this.#pushedSeq !== null;
  }

  /** Whether listeners have been sent this event. */
  hasPushed(seq: number): boolean {
    return this.#pushedSeq !== null && this.#pushedSeq >= seq;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#gapTimer);
    this.#buffered.clear();
  }

  /** Whether events are missing before those known. */
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

  /** Sends the text of an ending answer first, if pieces were omitted or never arrived from its writer. */
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

  /** Handles what is still missing: events step by step, then the text of answers once nothing before it is missing. */
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
    // If nothing is found (the database is unavailable, the conversation is gone), the next attempt waits longer.
    this.#gapWaitMs = Math.min(this.#gapWaitMs * 2, GAP_WAIT_MS_MAX);
    this.#isUrgent = false;
    this.#isFilling = true;
    try {
      if (this.#pushedSeq === null) return;
      const doubts = this.#pendingChecks;
      if (doubts > 0) {
        this.#targetSeq = Math.max(this.#targetSeq, await this.hooks.findLastSeq());
        // Another reason to check has come up.
        this.#pendingChecks -= doubts;
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
