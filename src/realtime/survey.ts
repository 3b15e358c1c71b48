import type { Bus } from "./bus.ts";

/** How long the first listener waits until the room's subscription takes effect between instances. */
const SUBSCRIBE_WAIT_MS = 150;
/** How long the first listener then waits for other instances' responses. One that has just died doesn't respond. */
const REPORTS_WAIT_MS = 300;

/**
 * Collects other instances' reports when a room is opened. The first listeners wait for it, so that they know from the start
 * which users are online elsewhere, and the text so far of answers. Later listeners don't wait.
 */
export class Survey {
  readonly #subscribed = Promise.withResolvers<void>();
  readonly #reported = Promise.withResolvers<void>();
  readonly #unreported: Set<string>;
  #timer: Timer | undefined;
  #isSubscribed = false;
  #isOver = false;
  /** Whether a listener may have read the database before other instances' messages were received. */
  hasReadBeforeSubscribed = false;

  constructor(bus: Pick<Bus, "scope" | "isHealthy" | "listPeers">) {
    this.#unreported = new Set(bus.listPeers());
    if (bus.scope === "process" || !bus.isHealthy()) this.end();
    else this.#timer = setTimeout(() => this.end(), SUBSCRIBE_WAIT_MS);
  }

  /** Waits until other instances' messages are received, so that later reads miss nothing. Undefined if there is no need to wait. */
  untilSubscribed(): Promise<void> | undefined {
    if (!this.#isOver && !this.#isSubscribed) return this.#subscribed.promise;
    if (!this.#isSubscribed) this.hasReadBeforeSubscribed = true;
    return undefined;
  }

  /** Waits until the other instances have reported. Undefined if there is no need to wait. */
  untilReported(): Promise<void> | undefined {
    return this.#isOver ? undefined : this.#reported.promise;
  }

  /** Called when the subscription has taken effect and reports have been requested. */
  onSubscribed(): void {
    if (this.#isSubscribed) return;
    this.#isSubscribed = true;
    this.#subscribed.resolve();
    clearTimeout(this.#timer);
    if (this.#unreported.size === 0) this.end();
    else this.#timer = setTimeout(() => this.end(), REPORTS_WAIT_MS);
  }

  /** Called when an instance has reported or has ended. */
  onReport(instanceId: string): void {
    if (this.#unreported.delete(instanceId) && this.#unreported.size === 0 && this.#isSubscribed) this.end();
  }

  /** Ends all waits. */
  end(): void {
    // Listeners whose wait timed out read the database before other instances' messages were received.
    if (!this.#isSubscribed) this.hasReadBeforeSubscribed = true;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#subscribed.resolve();
    this.#reported.resolve();
  }
}
