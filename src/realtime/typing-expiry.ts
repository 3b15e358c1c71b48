/** Grace period after the typist's own instance should have ended typing. */
const GRACE_MS = 1_000;

/**
 * The users typing in a conversation, as reported by instances. A user may type on several of them. Ends stale typing: the
 * typist's instance may have died.
 */
export class TypingExpiry {
  /** The instances on which each user types, with their expiry. */
  readonly #typists = new Map<string, Map<string, Timer>>();

  /** @param onExpired is called if neither a stop nor another start comes in time, and the user types nowhere else. */
  start(userId: string, instanceId: string, expiresInMs: number, onExpired: () => void): void {
    const instances = this.#typists.get(userId) ?? new Map<string, Timer>();
    this.#typists.set(userId, instances);
    clearTimeout(instances.get(instanceId));
    const expire = () => {
      if (!this.stop(userId, instanceId)) onExpired();
    };
    instances.set(instanceId, setTimeout(expire, expiresInMs + GRACE_MS));
  }

  /** @returns whether the user still types on another instance. */
  stop(userId: string, instanceId: string): boolean {
    const instances = this.#typists.get(userId);
    if (!instances) return false;
    clearTimeout(instances.get(instanceId));
    instances.delete(instanceId);
    if (instances.size > 0) return true;
    this.#typists.delete(userId);
    return false;
  }

  /** @returns whether the user was typing, on any instance. */
  stopEverywhere(userId: string): boolean {
    const instances = this.#typists.get(userId);
    if (!instances) return false;
    for (const timer of instances.values()) clearTimeout(timer);
    this.#typists.delete(userId);
    return true;
  }

  clear(): void {
    for (const userId of [...this.#typists.keys()]) this.stopEverywhere(userId);
  }
}
