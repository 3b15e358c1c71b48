import type { Log } from "../../lib/log.ts";
import { SentStates } from "./sent-states.ts";

/** A socket that receives its user's inbox frames. */
export interface InboxListener {
  readonly userId: string;
  send(text: string): void;
}

/** Frames that are buffered until the listener has received its ack; null afterwards. */
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

  list(): string[] {
    return [...this.#users.keys()];
  }

  findSentStates(userId: string): SentStates | undefined {
    return this.#users.get(userId)?.sentStates;
  }

  hasListener(listener: InboxListener): boolean {
    return this.#users.get(listener.userId)?.listeners.has(listener) ?? false;
  }

  /** Adds a listener, unless it has been added already. Its frames are buffered until `start`. */
  add(listener: InboxListener): void {
    const user = this.#users.get(listener.userId) ?? { listeners: new Map(), sentStates: new SentStates(this.#total) };
    this.#users.set(listener.userId, user);
    if (!user.listeners.has(listener)) user.listeners.set(listener, []);
  }

  /** Calls `onWelcome`, then sends the buffered frames. Has no effect if the listener has been removed. */
  start(listener: InboxListener, onWelcome: () => void): void {
    const listeners = this.#users.get(listener.userId)?.listeners;
    const buffered = listeners?.get(listener);
    if (buffered === undefined) return;
    onWelcome();
    listeners?.set(listener, null);
    for (const text of buffered ?? []) this.#sendTo(listener, text);
  }

  remove(listener: InboxListener): void {
    const user = this.#users.get(listener.userId);
    if (!user?.listeners.delete(listener) || user.listeners.size > 0) return;
    user.sentStates.clear();
    this.#users.delete(listener.userId);
  }

  send(userId: string, text: string): void {
    const listeners = this.#users.get(userId)?.listeners ?? new Map<InboxListener, BufferedFrames>();
    for (const [listener, buffered] of listeners) {
      if (buffered) buffered.push(text);
      else this.#sendTo(listener, text);
    }
    this.deps.onPushed("inbox", listeners.size);
  }

  /** Catches errors, so that the other listeners still receive the frame. */
  #sendTo(listener: InboxListener, text: string): void {
    try {
      listener.send(text);
    } catch (error) {
      this.deps.log.error({ err: error }, "sending an inbox frame failed");
    }
  }
}
