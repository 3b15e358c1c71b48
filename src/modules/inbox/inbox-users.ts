import type { Log } from "../../lib/log.ts";
import { SentStates } from "./sent-states.ts";

/** A socket that receives the inbox frames of its user. */
export interface InboxListener {
  readonly userId: string;
  send(text: string): void;
}

/** Frames held back until the listener has received its ack; null afterwards. */
type HeldFrames = string[] | null;
type InboxUser = { listeners: Map<InboxListener, HeldFrames>; sentStates: SentStates };

type Dependencies = {
  log: Log;
  /** Counts sent frames by number of listeners. */
  onPushed(type: string, listeners: number): void;
};

/** The users with an inbox on this instance, and their listeners. */
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

  /** Frames for the listener are held back until `start`; a started listener keeps receiving. */
  add(listener: InboxListener): void {
    const user = this.#users.get(listener.userId) ?? { listeners: new Map(), sentStates: new SentStates(this.#total) };
    this.#users.set(listener.userId, user);
    if (!user.listeners.has(listener)) user.listeners.set(listener, []);
  }

  /** Sends the held frames after `welcome`; nothing if the listener has left. */
  start(listener: InboxListener, welcome: () => void): void {
    const listeners = this.#users.get(listener.userId)?.listeners;
    const held = listeners?.get(listener);
    if (held === undefined) return;
    welcome();
    listeners?.set(listener, null);
    for (const text of held ?? []) this.#sendTo(listener, text);
  }

  remove(listener: InboxListener): void {
    const user = this.#users.get(listener.userId);
    if (!user?.listeners.delete(listener) || user.listeners.size > 0) return;
    user.sentStates.clear();
    this.#users.delete(listener.userId);
  }

  send(userId: string, text: string): void {
    const listeners = this.#users.get(userId)?.listeners ?? new Map<InboxListener, HeldFrames>();
    for (const [listener, held] of listeners) {
      if (held) held.push(text);
      else this.#sendTo(listener, text);
    }
    this.deps.onPushed("inbox", listeners.size);
  }

  /** An error of one listener must not keep the frame from the others. */
  #sendTo(listener: InboxListener, text: string): void {
    try {
      listener.send(text);
    } catch (error) {
      this.deps.log.error({ err: error }, "sending an inbox frame failed");
    }
  }
}
