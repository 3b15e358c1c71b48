import type { Log } from "../../lib/log.ts";
import { SentStates } from "./sent-states.ts";

/** A socket that receives its user's inbox frames. */
export interface InboxListener {
  readonly userId: string;
  send(frame: string): void;
}

/** Frames that are buffered until the listener has received its ack. Null after that. */
type BufferedFrames = string[] | null;
type InboxUser = { listeners: Map<InboxListener, BufferedFrames>; sentStates: SentStates };

type Dependencies = {
  log: Log;
  /** Called after a frame was sent. */
  onPushed(type: string, recipientCount: number): void;
};

/** The users with an open inbox on this instance, and their listeners. */
export class InboxUsers {
  readonly #users = new Map<string, InboxUser>();
  readonly #total = { count: 0 };

  constructor(readonly deps: Dependencies) {}

  get size(): number {
    return this.#users.size;
  }

  has(userId: string): boolean {
    return this.#users.has(userId);
  }

  listIds(): string[] {
    return [...this.#users.keys()];
  }

  findSentStates(userId: string): SentStates | undefined {
    return this.#users.get(userId)?.sentStates;
  }

  hasListener(listener: InboxListener): boolean {
    return this.#users.get(listener.userId)?.listeners.has(listener) ?? false;
  }

  /** Adds a listener, unless it has been added already. Its frames are buffered until `startSending` is called. */
  add(listener: InboxListener): void {
    const user = this.#users.get(listener.userId) ?? { listeners: new Map(), sentStates: new SentStates(this.#total) };
    this.#users.set(listener.userId, user);
    if (!user.listeners.has(listener)) user.listeners.set(listener, []);
  }

  /** Calls `sendWelcome`, then sends the buffered frames. Has no effect if the listener has been removed. */
  startSending(listener: InboxListener, sendWelcome: () => void): void {
    const listeners = this.#users.get(listener.userId)?.listeners;
    const bufferedFrames = listeners?.get(listener);
    if (bufferedFrames === undefined) return;
    sendWelcome();
    listeners?.set(listener, null);
    for (const frame of bufferedFrames ?? []) this.#sendTo(listener, frame);
  }

  remove(listener: InboxListener): void {
    const user = this.#users.get(listener.userId);
    if (!user?.listeners.delete(listener) || user.listeners.size > 0) return;
    user.sentStates.clear();
    this.#users.delete(listener.userId);
  }

  send(userId: string, frame: string): void {
    const listeners = this.#users.get(userId)?.listeners ?? new Map<InboxListener, BufferedFrames>();
    for (const [listener, bufferedFrames] of listeners) {
      if (bufferedFrames) bufferedFrames.push(frame);
      else this.#sendTo(listener, frame);
    }
    this.deps.onPushed("inbox", listeners.size);
  }

  /** Catches errors, so that the other listeners still receive the frame. */
  #sendTo(listener: InboxListener, frame: string): void {
    try {
      listener.send(frame);
    } catch (error) {
      this.deps.log.error({ err: error }, "sending an inbox frame failed");
    }
  }
}
