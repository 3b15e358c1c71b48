import type { Bus } from "./bus.ts";

/** Longest wait of a first listener until the room's subscription takes effect between instances. */
const SUBSCRIBE_WAIT_MS = 150;
/** Longest wait for the responses of other instances after that; one that has just died doesn't respond. */
const REPORTS_WAIT_MS = 300;

/**
 * The first listeners of a room wait for this, so that they know from the start which users are online on other instances,
 * and the text so far of answers. Later listeners don't wait.
 */
export class Survey {
  readonly #subscribed = Promise.withResolvers<void>();
  readonly #reported = Promise.withResolvers<void>();
  readonly #unreported: Set<string>;
  #timer: Timer | undefined;
  #isSubscribed = false;
  #isOver = false;
  /** Whether the database may have been read without receiving the other instances. */
  hasReadBeforeSubscribed = false;

  constructor(bus: Pick<Bus, "scope" | "isHealthy" | "listPeers">) {
    this.#unreported = new Set(bus.listPeers());
    if (bus.scope === "process" || !bus.isHealthy()) this.end();
    else this.#timer = setTimeout(() => this.end(), SUBSCRIBE_WAIT_MS);
  }

  /** Fulfills when the other instances are received: reads after it miss nothing. Undefined: no need to wait. */
  untilSubscribed(): Promise<void> | undefined {
    if (!this.#isOver && !this.#isSubscribed) return this.#subscribed.promise;
    if (!this.#isSubscribed) this.hasReadBeforeSubscribed = true;
    return undefined;
  }

  /** Fulfills when the other instances have reported. Undefined: no need to wait. */
  untilReported(): Promise<void> | undefined {
    return this.#isOver ? undefined : this.#reported.promise;
  }

  /** The subscription has taken effect, and reports are requested. */
  onSubscribed(): void {
    if (this.#isSubscribed) return;
    this.#isSubscribed = true;
    this.#subscribed.resolve();
    clearTimeout(this.#timer);
    if (this.#unreported.size === 0) this.end();
    else this.#timer = setTimeout(() => this.end(), REPORTS_WAIT_MS);
  }

  /** An instance has reported, or is gone. */
  onReport(instanceId: string): void {
    if (this.#unreported.delete(instanceId) && this.#unreported.size === 0 && this.#isSubscribed) this.end();
  }

  /** Ends all waits. */
  end(): void {
    // Listeners whose wait timed out read without receiving the others.
    if (!this.#isSubscribed) this.hasReadBeforeSubscribed = true;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#subscribed.resolve();
    this.#reported.resolve();
  }
}
