/** After a gap, an instance that doesn't report its listeners in this time has none. */
const ANSWER_MS = 2_000;

/** The users who listen to one conversation, on all instances. A user is online while at least one instance has them. */
export class Presence {
  readonly #usersOf = new Map<string, Set<string>>();
  /** Instances that may have told something that did not arrive. */
  #doubted = new Set<string>();
  #timer: Timer | undefined;

  isOnline(userId: string): boolean {
    for (const users of this.#usersOf.values()) if (users.has(userId)) return true;
    return false;
  }

  /** @returns whether the user came online or went offline by it. */
  set(instanceId: string, userId: string, online: boolean): boolean {
    const wasOnline = this.isOnline(userId);
    const users = this.#usersOf.get(instanceId) ?? new Set();
    if (online) users.add(userId);
    else users.delete(userId);
    if (users.size > 0) this.#usersOf.set(instanceId, users);
    else this.#usersOf.delete(instanceId);
    return wasOnline !== this.isOnline(userId);
  }

  /** An instance has told all it has. @returns the users who came online or went offline by it. */
  replace(instanceId: string, userIds: readonly string[]): { userId: string; online: boolean }[] {
    this.#doubted.delete(instanceId);
    const now = new Set(userIds);
    const gone = this.listOf(instanceId).filter((userId) => !now.has(userId));
    const changes = [...gone.map((userId) => ({ userId, online: false })), ...userIds.map(createArrival)];
    return changes.filter(({ userId, online }) => this.set(instanceId, userId, online));
  }

  /**
   * Something was lost: what other instances have told counts until they had time to tell it again.
   * @param onSilent is called for each that has not.
   */
  doubt(ownInstanceId: string, onSilent: (instanceId: string) => void): void {
    this.#doubted = new Set(this.#usersOf.keys());
    this.#doubted.delete(ownInstanceId);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      for (const silent of [...this.#doubted]) onSilent(silent);
    }, ANSWER_MS);
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
