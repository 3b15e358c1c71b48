import type { ConversationEvent, DurableEvent, EphemeralEvent } from "../protocol/events.ts";

/** How long an event may wait for one before it, until the missing ones are read from the database. */
export const GAP_WAIT_MS = 100;
/** The wait grows up to this while the database has nothing to fill the gap with. */
export const GAP_WAIT_MS_MAX = 5_000;

/** A listener who has got further on another instance waits so long for this one; then some events come twice. */
const REACH_WAIT_MS = 3_000;
const REACH_POLL_MS = 5;

/** An answer that is being written: which run of a model it is, and a `message.reset` with its text so far. */
export type Snapshot = { messageId: string; attempt: number; frame: string };

export type ChannelHooks = {
  /** Sends a serialised frame to everyone who listens; with the event that it says, where that is at hand. */
  send(text: string, type: string, event?: ConversationEvent): void;
  /** Called with each durable event in its order, after everyone who listens was sent it. */
  onEvent(event: DurableEvent): void;
  /**
   * Called before the end of an answer is sent.
   * @returns the attempt of which listeners have to be told the text first; null: they have it.
   */
  endAnswer(messageId: string, text: string): number | null;
  /** Reads durable events from the database: those after `afterSeq`, up to and including `untilSeq`, in order. */
  loadEvents(afterSeq: number, untilSeq: number): Promise<DurableEvent[]>;
  /** The number of the newest event in the database. */
  findLastSeq(): Promise<number>;
  /** Every answer that is being written, with a frame of its text so far. */
  listSnapshots(): Snapshot[];
  onFault(error: unknown): void;
};

/** Someone who is about to listen: what is pushed while they read their start position is kept for them. */
export type Join = { missed: DurableEvent[]; hadBegun: boolean };

/**
 * The order of one conversation's pushes on this instance. Durable events go out strictly by `seq`, each once: one that
 * comes too early is held, one that comes late or twice is dropped, a gap is filled from the database.
 */
export class Channel {
  /** The newest event that listeners have; null until the first of them has read its start position. */
  #pushedSeq: number | null = null;
  /** The newest event that is known to be stored. */
  #targetSeq = 0;
  readonly #held = new Map<number, DurableEvent>();
  /**
   * Answers (with their attempt) of which pieces were left out, since the message they belong to might still be held:
   * listeners are told the whole text when nothing is missing any more, or before the end of the answer.
   */
  readonly #untold = new Map<string, number>();
  /** Above 0, events may be stored that nobody has told of: so many reasons there are to think so. */
  #doubts = 0;
  readonly #joins = new Set<Join>();
  #gapTimer: Timer | undefined;
  #gapWaitMs = GAP_WAIT_MS;
  #isFilling = false;
  /** An event was announced that no look has tried to read yet. */
  #isUrgent = false;
  #isClosed = false;

  constructor(readonly hooks: ChannelHooks) {}

  startJoin(): Join {
    const join: Join = { missed: [], hadBegun: this.#pushedSeq !== null };
    this.#joins.add(join);
    return join;
  }

  cancelJoin(join: Join): void {
    this.#joins.delete(join);
  }

  /**
   * Whether the pushes were begun by another join behind `readSeq`: what lies between was never pushed, and a join that
   * ended there would leave it out.
   */
  isOvertaken(join: Join, readSeq: number): boolean {
    if (join.hadBegun || this.#pushedSeq === null || readSeq >= this.#pushedSeq) return false;
    return !join.missed.some(({ seq }) => seq === readSeq + 1);
  }

  /**
   * Ends a join at `readSeq`, the position that was read from the database after `startJoin`. In one tick: `welcome`
   * gets the position from which pushes go on, and the events between `readSeq` and there; then pushes begin.
   * @param catchUp tells the new listener the text so far of answers; when that has to wait, all listeners are told it.
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
    // The database may be ahead of the pushes; should the one for the rest get lost, nobody else would notice.
    this.#targetSeq = Math.max(this.#targetSeq, readSeq);
    this.#pushHeld();
    if (this.#isWaiting()) {
      // The text of a message that has not been pushed yet can only be told after it.
      for (const { messageId, attempt } of this.hooks.listSnapshots()) this.#untold.set(messageId, attempt);
    } else {
      if (isFirst) this.#untold.clear();
      catchUp();
    }
    this.#settle();
  }

  publish(event: DurableEvent): void {
    if (this.#pushedSeq !== null && event.seq <= this.#pushedSeq) return;
    if (event.seq === (this.#pushedSeq ?? Number.NaN) + 1 && this.#held.size === 0) this.#push(event);
    else this.#held.set(event.seq, event);
    this.#pushHeld();
    this.#settle();
  }

  publishFrame(event: EphemeralEvent): void {
    const isText = event.type === "message.delta" || event.type === "message.reset";
    if (isText && (this.#pushedSeq === null || this.#isWaiting())) this.#untold.set(event.message_id, event.attempt);
    else this.#send(event);
  }

  /** Events may have been lost on the way here: looks for what is stored behind the pushes. */
  lookForMissed(): void {
    this.#doubts += 1;
    this.#settle();
  }

  /** An event is known to be stored, but not what it says: it is read at once. */
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

  /** Waits until listeners have been sent everything up to a stored event, which is read soon if it does not come by itself. */
  async reach(seq: number): Promise<void> {
    const isBehind = () => this.#pushedSeq !== null && this.#pushedSeq < seq && !this.#isClosed;
    if (!isBehind()) return;
    this.#targetSeq = Math.max(this.#targetSeq, seq);
    this.#settle();
    const endMs = performance.now() + REACH_WAIT_MS;
    while (isBehind() && performance.now() < endMs) await Bun.sleep(REACH_POLL_MS);
  }

  /** Whether a first listener has read its start position. */
  get hasBegun(): boolean {
    return this.#pushedSeq !== null;
  }

  /** Whether listeners have been sent this event. */
  hasPushed(seq: number): boolean {
    return this.#pushedSeq !== null && this.#pushedSeq >= seq;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#gapTimer);
    this.#held.clear();
  }

  /** Whether events are missing that come before what is known. */
  #isWaiting(): boolean {
    return this.#doubts > 0 || this.#held.size > 0 || this.#targetSeq > (this.#pushedSeq ?? Number.POSITIVE_INFINITY);
  }

  #send(event: ConversationEvent): void {
    this.hooks.send(JSON.stringify(event), event.type, event);
  }

  #push(event: DurableEvent): void {
    this.#pushedSeq = event.seq;
    this.#gapWaitMs = GAP_WAIT_MS;
    for (const join of this.#joins) join.missed.push(event);
    if (event.type === "message.completed") this.#tellText(event);
    this.#send(event);
    this.hooks.onEvent(event);
  }

  /** An answer ends of which pieces were left out, or have not come from the instance that wrote it: its text comes first. */
  #tellText({ conversation_id, data }: DurableEvent<"message.completed">): void {
    const message_id = data.id;
    const attempt = Math.max(this.#untold.get(message_id) ?? 0, this.hooks.endAnswer(message_id, data.content) ?? 0);
    if (attempt === 0) return;
    this.#untold.delete(message_id);
    const { content: text, reasoning } = data;
    const reset = { type: "message.reset", conversation_id, message_id, attempt, text } as const;
    this.#send(reasoning === null ? reset : { ...reset, reasoning });
  }

  /** Pushes those that follow what has been pushed. */
  #pushHeld(): void {
    if (this.#pushedSeq === null || this.#isClosed) return;
    for (const seq of this.#held.keys()) if (seq <= this.#pushedSeq) this.#held.delete(seq);
    for (;;) {
      const next = this.#held.get(this.#pushedSeq + 1);
      if (!next) break;
      this.#held.delete(next.seq);
      this.#push(next);
    }
  }

  /** Sees to what is still missing: events by and by, the text of answers once there is nothing before it any more. */
  #settle(): void {
    if (this.#pushedSeq === null || this.#isClosed) return;
    if (this.#isWaiting()) {
      this.#gapTimer ??= setTimeout(() => this.#fillGap(), this.#isUrgent ? 0 : this.#gapWaitMs);
    } else if (this.#untold.size > 0) {
      for (const { messageId, frame } of this.hooks.listSnapshots())
        if (this.#untold.has(messageId)) this.hooks.send(frame, "message.reset");
      this.#untold.clear();
    }
  }

  async #fillGap(): Promise<void> {
    // Should nothing come of it (the database is away, the conversation is gone), the next try waits longer.
    this.#gapWaitMs = Math.min(this.#gapWaitMs * 2, GAP_WAIT_MS_MAX);
    this.#isUrgent = false;
    this.#isFilling = true;
    try {
      if (this.#pushedSeq === null) return;
      const doubts = this.#doubts;
      if (doubts > 0) {
        this.#targetSeq = Math.max(this.#targetSeq, await this.hooks.findLastSeq());
        // Another doubt that came meanwhile asks for another look.
        this.#doubts -= doubts;
      }
      const untilSeq = Math.max(this.#targetSeq, ...this.#held.keys());
      if (untilSeq <= this.#pushedSeq) return;
      for (const event of await this.hooks.loadEvents(this.#pushedSeq, untilSeq)) this.#held.set(event.seq, event);
    } catch (error) {
      this.hooks.onFault(error);
    } finally {
      this.#isFilling = false;
      this.#gapTimer = undefined;
      this.#pushHeld();
      this.#settle();
    }
  }
}
