/** After a gap, an instance that doesn't report its listeners within this time has none. */
const REPORT_TIMEOUT_MS = 2_000;

/** The users listening to one conversation, on all instances. A user is online while at least one instance lists them. */
export class Presence {
  readonly #usersOf = new Map<string, Set<string>>();
  /** Instances whose reports may have been lost. */
  #unconfirmed = new Set<string>();
  #timer: Timer | undefined;

  isOnline(userId: string): boolean {
    for (const users of this.#usersOf.values()) if (users.has(userId)) return true;
    return false;
  }

  /** @returns whether this brought the user online or offline. */
  set(instanceId: string, userId: string, online: boolean): boolean {
    const wasOnline = this.isOnline(userId);
    const users = this.#usersOf.get(instanceId) ?? new Set();
    if (online) users.add(userId);
    else users.delete(userId);
    if (users.size > 0) this.#usersOf.set(instanceId, users);
    else this.#usersOf.delete(instanceId);
    return wasOnline !== this.isOnline(userId);
  }

  /** An instance has reported all its listeners. @returns the users who came online or went offline. */
  replace(instanceId: string, userIds: readonly string[]): { userId: string; online: boolean }[] {
    this.#unconfirmed.delete(instanceId);
    const now = new Set(userIds);
    const left = this.listOf(instanceId).filter((userId) => !now.has(userId));
    const changes = [...left.map((userId) => ({ userId, online: false })), ...userIds.map(createArrival)];
    return changes.filter(({ userId, online }) => this.set(instanceId, userId, online));
  }

  /**
   * Messages were lost: earlier reports of other instances stay valid until they had time to repeat them.
   * @param onMissing is called for each instance that has not.
   */
  expectReports(ownInstanceId: string, onMissing: (instanceId: string) => void): void {
    this.#unconfirmed = new Set(this.#usersOf.keys());
    this.#unconfirmed.delete(ownInstanceId);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      for (const instanceId of [...this.#unconfirmed]) onMissing(instanceId);
    }, REPORT_TIMEOUT_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  list(): string[] {
    return [...new Set([...this.#usersOf.values()].flatMap((users) => [...users]))];
  }

  listOf(instanceId: string): string[] {
    return [...(this.#usersOf.get(instanceId) ?? [])];
  }
}

const createArrival = (userId: string) => ({ userId, online: true });
