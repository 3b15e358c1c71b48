import type { Bus } from "./bus.ts";

/** Longest wait of a first listener until the room's subscription takes effect between instances. */
const HEARD_MS = 150;
/** Longest wait for the responses of other instances after that; one that has just died doesn't respond. */
const ANSWERS_MS = 300;

/**
 * The first listeners of a room wait for this, so that they know from the start which users are online on other instances,
 * and the text so far of answers. Later listeners don't wait.
 */
export class Survey {
  readonly #heard = Promise.withResolvers<void>();
  readonly #informed = Promise.withResolvers<void>();
  readonly #silent: Set<string>;
  #timer: Timer | undefined;
  #isHeard = false;
  #isOver = false;
  /** Whether the database may have been read without receiving the other instances. */
  hasReadUnheard = false;

  constructor(bus: Pick<Bus, "reach" | "isHealthy" | "listPeers">) {
    this.#silent = new Set(bus.listPeers());
    if (bus.reach === "process" || !bus.isHealthy()) this.end();
    else this.#timer = setTimeout(() => this.end(), HEARD_MS);
  }

  /** Fulfils when the other instances are received: reads after it miss nothing. Undefined: no need to wait. */
  untilHeard(): Promise<void> | undefined {
    if (!this.#isOver && !this.#isHeard) return this.#heard.promise;
    if (!this.#isHeard) this.hasReadUnheard = true;
    return undefined;
  }

  /** Fulfils when the other instances have reported. Undefined: no need to wait. */
  untilInformed(): Promise<void> | undefined {
    return this.#isOver ? undefined : this.#informed.promise;
  }

  /** The subscription has taken effect, and the others are asked. */
  hear(): void {
    if (this.#isHeard) return;
    this.#isHeard = true;
    this.#heard.resolve();
    clearTimeout(this.#timer);
    if (this.#silent.size === 0) this.end();
    else this.#timer = setTimeout(() => this.end(), ANSWERS_MS);
  }

  /** An instance has reported, or is gone. */
  takeAnswer(instanceId: string): void {
    if (this.#silent.delete(instanceId) && this.#silent.size === 0 && this.#isHeard) this.end();
  }

  /** Ends all waits. */
  end(): void {
    // Listeners whose wait timed out read without receiving the others.
    if (!this.#isHeard) this.hasReadUnheard = true;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#heard.resolve();
    this.#informed.resolve();
  }
}
