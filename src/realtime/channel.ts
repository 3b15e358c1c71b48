import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";

/** The delay before missing events are read from the database, because they may just be late. */
export const GAP_WAIT_MS = 100;
/** The maximum delay. The delay doubles while the missing events can't be found in the database. */
export const GAP_WAIT_MS_MAX = 5_000;

/**
 * If a listener already has newer events from another instance, it waits at most this long for this instance to catch up. If the wait
 * times out, the listener receives some events twice.
 */
const SEQ_TIMEOUT_MS = 3_000;
const SEQ_POLL_MS = 5;

/** An answer in progress. `frame` is a serialized `message.reset` with the text so far. */
export type Snapshot = { messageId: string; attempt: number; frame: string };

export type ChannelHooks = {
  /** Sends a serialized frame to all listeners, with its event if available. */
  send(text: string, type: string, event?: ConversationEvent): void;
  /** Called with each durable event, in order, after it was sent to all listeners. */
  onEvent(event: DurableEvent): void;
  /**
   * Called before an answer's `message.completed` is sent.
   * @returns the attempt for a `message.reset` with the whole text, or null if listeners already have the text.
   */
  endAnswer(messageId: string, text: string): number | null;
  /** Reads durable events after `afterSeq` up to and including `untilSeq` from the database, in order. */
  loadEvents(afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** Finds the sequence number of the newest event in the database. */
  findLastSeq(): Promise<number>;
  /** Lists all answers in progress. */
  listSnapshots(): Snapshot[];
  onError(error: unknown): void;
};

/** A join in progress. `missedEvents` collects the events that are pushed while the listener's start position is read. */
export type Join = { missedEvents: DurableEvent[]; wasPushing: boolean };

/**
 * Orders the pushes of one conversation on this instance. Each durable event is pushed once, strictly in order of `seq`. If
 * earlier events are missing, an event is buffered, and the missing events are read from the database. Late or repeated events
 * are dropped.
 */
export class Channel {
  /** The `seq` of the newest pushed event. Null until the first listener's start position has been read. */
  #pushedSeq: number | null = null;
  /** The `seq` of the newest event known to be stored. */
  #targetSeq = 0;
  readonly #buffered = new Map<number, DurableEvent>();
  /**
   * The attempts (by message id) of answers whose deltas were omitted, because the message itself may not have been pushed yet.
   * Listeners receive the whole text as soon as no event is missing, or at the latest before `message.completed`.
   */
  readonly #awaitingSnapshot = new Map<string, number>();
  /** The number of requested checks for stored events that weren't announced. */
  #pendingChecks = 0;
  readonly #joins = new Set<Join>();
  #gapTimer: Timer | undefined;
  #gapWaitMs = GAP_WAIT_MS;
  #isFilling = false;
  /** Whether missing events must be read without delay. */
  #mustReadNow = false;
  #isClosed = false;

  constructor(readonly hooks: ChannelHooks) {}

  startJoin(): Join {
    const join: Join = { missedEvents: [], wasPushing: this.#pushedSeq !== null };
    this.#joins.add(join);
    return join;
  }

  cancelJoin(join: Join): void {
    this.#joins.delete(join);
  }

  /**
   * Returns whether a concurrent join has started the pushes from a newer position than `readSeq`. The events between the two positions
   * were never pushed, so this join would miss them.
   */
  isOvertaken(join: Join, readSeq: number): boolean {
    if (join.wasPushing || this.#pushedSeq === null || readSeq >= this.#pushedSeq) return false;
    return !join.missedEvents.some(({ seq }) => seq === readSeq + 1);
  }

  /**
   * Completes a join. Pushes begin as soon as `welcome` returns.
   * @param readSeq the newest sequence number that was read from the database after `startJoin`.
   * @param welcome called synchronously with the last pushed sequence number, and the events pushed after `readSeq`.
   * @param catchUp sends the text of answers in progress to the new listener. If events are missing, it isn't called, and all
   * listeners receive the text later.
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
      join.missedEvents.filter((event) => event.seq > readSeq),
    );
    // The database may be ahead of the pushes. If the events after the last push were lost, only this check detects it.
    this.#targetSeq = Math.max(this.#targetSeq, readSeq);
    this.#pushBuffered();
    if (this.#isMissingEvents()) {
      // The text of a message must not be pushed before the message itself.
      for (const { messageId, attempt } of this.hooks.listSnapshots()) this.#awaitingSnapshot.set(messageId, attempt);
    } else {
      if (isFirst) this.#awaitingSnapshot.clear();
      catchUp();
    }
    this.#fillGapOrSendText();
  }

  publish(event: DurableEvent): void {
    if (this.#pushedSeq !== null && event.seq <= this.#pushedSeq) return;
    if (event.seq === (this.#pushedSeq ?? Number.NaN) + 1 && this.#buffered.size === 0) this.#push(event);
    else this.#buffered.set(event.seq, event);
    this.#pushBuffered();
    this.#fillGapOrSendText();
  }

  publishFrame(event: EphemeralEvent): void {
    const isText = event.type === "message.delta" || event.type === "message.reset";
    if (isText && (this.#pushedSeq === null || this.#isMissingEvents()))
      this.#awaitingSnapshot.set(event.message_id, event.attempt);
    else this.#send(event);
  }

  /** Checks the database for events after the last push, because some may have been lost. */
  checkForMissed(): void {
    this.#pendingChecks += 1;
    this.#fillGapOrSendText();
  }

  /** Records that the events up to `seq` are stored, and reads the missing ones from the database without delay. */
  announceStored(seq: number): void {
    if (this.hasPushed(seq) || seq <= this.#targetSeq) return;
    this.#targetSeq = seq;
    this.#mustReadNow = true;
    if (!this.#isFilling) {
      clearTimeout(this.#gapTimer);
      this.#gapTimer = undefined;
    }
    this.#fillGapOrSendText();
  }

  /** Waits until all events up to `seq` have been pushed. Events that don't arrive are read from the database. */
  async waitForSeq(seq: number): Promise<void> {
    const isBehind = () => this.#pushedSeq !== null && this.#pushedSeq < seq && !this.#isClosed;
    if (!isBehind()) return;
    this.#targetSeq = Math.max(this.#targetSeq, seq);
    this.#fillGapOrSendText();
    const deadlineMs = performance.now() + SEQ_TIMEOUT_MS;
    while (isBehind() && performance.now() < deadlineMs) await Bun.sleep(SEQ_POLL_MS);
  }

  /** Whether events are being pushed. Pushes start when the first listener's start position has been read. */
  get isPushing(): boolean {
    return this.#pushedSeq !== null;
  }

  hasPushed(seq: number): boolean {
    return this.#pushedSeq !== null && this.#pushedSeq >= seq;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#gapTimer);
    this.#buffered.clear();
  }

  /** Returns whether stored events haven't been pushed yet, or may not have been pushed. */
  #isMissingEvents(): boolean {
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
    for (const join of this.#joins) join.missedEvents.push(event);
    if (event.type === "message.completed") this.#pushFinalText(event);
    this.#send(event);
    this.hooks.onEvent(event);
  }

  /** Sends an answer's whole text before its `message.completed`, if deltas were omitted or lost. */
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

  /** Pushes the buffered events that directly follow the last pushed event. */
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

  /** Schedules reading of missing events. If no event is missing, sends the text that was omitted. */
  #fillGapOrSendText(): void {
    if (this.#pushedSeq === null || this.#isClosed) return;
    if (this.#isMissingEvents()) {
      this.#gapTimer ??= setTimeout(() => this.#fillGap(), this.#mustReadNow ? 0 : this.#gapWaitMs);
    } else if (this.#awaitingSnapshot.size > 0) {
      for (const { messageId, frame } of this.hooks.listSnapshots())
        if (this.#awaitingSnapshot.has(messageId)) this.hooks.send(frame, "message.reset");
      this.#awaitingSnapshot.clear();
    }
  }

  async #fillGap(): Promise<void> {
    // The delay before the next attempt is longer. Events may stay missing if the database is unavailable or the conversation was deleted.
    this.#gapWaitMs = Math.min(this.#gapWaitMs * 2, GAP_WAIT_MS_MAX);
    this.#mustReadNow = false;
    this.#isFilling = true;
    try {
      if (this.#pushedSeq === null) return;
      const checks = this.#pendingChecks;
      if (checks > 0) {
        this.#targetSeq = Math.max(this.#targetSeq, await this.hooks.findLastSeq());
        // More checks may have been requested in the meantime.
        this.#pendingChecks -= checks;
      }
      const untilSeq = Math.max(this.#targetSeq, ...this.#buffered.keys());
      if (untilSeq <= this.#pushedSeq) return;
      for (const event of await this.hooks.loadEvents(this.#pushedSeq, untilSeq)) this.#buffered.set(event.seq, event);
    } catch (error) {
      this.hooks.onError(error);
    } finally {
      this.#isFilling = false;
      this.#gapTimer = undefined;
      this.#pushBuffered();
      this.#fillGapOrSendText();
    }
  }
}
