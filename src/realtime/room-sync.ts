import type { Bus } from "./bus.ts";

/** Maximum time the first listener waits for the room's subscription to take effect. */
const SUBSCRIBE_TIMEOUT_MS = 150;
/** Maximum time the first listener then waits for other instances' reports. A crashed instance doesn't respond. */
const REPORTS_TIMEOUT_MS = 300;

/**
 * Waits for other instances' reports when a room is opened. The first listeners wait, so that their first response already includes the
 * users who are online on other instances, and the text so far of answers in progress. Later listeners don't wait.
 */
export class RoomSync {
  readonly #subscribed = Promise.withResolvers<void>();
  readonly #reported = Promise.withResolvers<void>();
  readonly #unreportedIds: Set<string>;
  #timer: Timer | undefined;
  #isSubscribed = false;
  #isDone = false;
  /** Whether a listener may have read the database before the subscription was active. */
  mayHaveMissedMessages = false;

  constructor(bus: Pick<Bus, "scope" | "isHealthy" | "listOtherInstances">) {
    this.#unreportedIds = new Set(bus.listOtherInstances());
    if (bus.scope === "process" || !bus.isHealthy()) this.finish();
    else this.#timer = setTimeout(() => this.finish(), SUBSCRIBE_TIMEOUT_MS);
  }

  /** Waits until the subscription is active, so that later reads miss nothing. Returns undefined if no wait is needed. */
  waitForSubscription(): Promise<void> | undefined {
    if (!this.#isDone && !this.#isSubscribed) return this.#subscribed.promise;
    if (!this.#isSubscribed) this.mayHaveMissedMessages = true;
    return undefined;
  }

  /** Waits until the other instances have reported. Returns undefined if no wait is needed. */
  waitForReports(): Promise<void> | undefined {
    return this.#isDone ? undefined : this.#reported.promise;
  }

  /** Called when the subscription has taken effect and reports have been requested. */
  onSubscribed(): void {
    if (this.#isSubscribed) return;
    this.#isSubscribed = true;
    this.#subscribed.resolve();
    clearTimeout(this.#timer);
    if (this.#unreportedIds.size === 0) this.finish();
    else this.#timer = setTimeout(() => this.finish(), REPORTS_TIMEOUT_MS);
  }

  /** Called when an instance has reported or is lost. */
  onReport(instanceId: string): void {
    if (this.#unreportedIds.delete(instanceId) && this.#unreportedIds.size === 0 && this.#isSubscribed) this.finish();
  }

  /** Ends all waits. */
  finish(): void {
    // If the wait has timed out, listeners read the database before the subscription is active.
    if (!this.#isSubscribed) this.mayHaveMissedMessages = true;
    this.#isDone = true;
    clearTimeout(this.#timer);
    this.#subscribed.resolve();
    this.#reported.resolve();
  }
}
