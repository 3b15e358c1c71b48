/** The grace period for a user's instance to report that typing has ended. */
const GRACE_MS = 1_000;

/**
 * The users who are typing in a conversation, as reported by all instances. A user may be typing on several instances. Typing
 * expires in case the user's instance has crashed.
 */
export class TypingExpiry {
  /** The instances on which each user is typing, with their timers. */
  readonly #typists = new Map<string, Map<string, Timer>>();

  /** Records that a user is typing. @param onExpired called when typing expires and the user isn't typing on another instance. */
  start(userId: string, instanceId: string, expiresInMs: number, onExpired: () => void): void {
    const instances = this.#typists.get(userId) ?? new Map<string, Timer>();
    this.#typists.set(userId, instances);
    clearTimeout(instances.get(instanceId));
    const expire = () => {
      if (!this.stop(userId, instanceId)) onExpired();
    };
    instances.set(instanceId, setTimeout(expire, expiresInMs + GRACE_MS));
  }

  /** Records the end of typing. @returns whether the user is still typing on another instance. */
  stop(userId: string, instanceId: string): boolean {
    const instances = this.#typists.get(userId);
    if (!instances) return false;
    clearTimeout(instances.get(instanceId));
    instances.delete(instanceId);
    if (instances.size > 0) return true;
    this.#typists.delete(userId);
    return false;
  }

  /** Ends a user's typing on all instances. @returns whether the user was typing on any. */
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
