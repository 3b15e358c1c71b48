/** If an instance doesn't report its listeners within this time after a gap, it is assumed to have none. */
const REPORT_TIMEOUT_MS = 2_000;

/** The users with listeners in one conversation, per instance. A user is online while listening on at least one instance. */
export class Presence {
  readonly #usersByInstance = new Map<string, Set<string>>();
  /** Instances whose reports may have been lost. */
  #unreportedIds = new Set<string>();
  #timer: Timer | undefined;

  isOnline(userId: string): boolean {
    for (const users of this.#usersByInstance.values()) if (users.has(userId)) return true;
    return false;
  }

  /** Records whether a user listens on an instance. @returns whether the user came online or went offline. */
  set(instanceId: string, userId: string, online: boolean): boolean {
    const wasOnline = this.isOnline(userId);
    const users = this.#usersByInstance.get(instanceId) ?? new Set();
    if (online) users.add(userId);
    else users.delete(userId);
    if (users.size > 0) this.#usersByInstance.set(instanceId, users);
    else this.#usersByInstance.delete(instanceId);
    return wasOnline !== this.isOnline(userId);
  }

  /** Records an instance's report of all its listeners. @returns the users who came online or went offline. */
  replace(instanceId: string, userIds: readonly string[]): { userId: string; online: boolean }[] {
    this.#unreportedIds.delete(instanceId);
    const reportedIds = new Set(userIds);
    const offlineIds = this.listUsers(instanceId).filter((userId) => !reportedIds.has(userId));
    const changes = [...offlineIds.map((userId) => ({ userId, online: false })), ...userIds.map(mapToOnline)];
    return changes.filter(({ userId, online }) => this.set(instanceId, userId, online));
  }

  /**
   * Expects new reports from other instances, because messages may have been lost. Until they arrive, the earlier reports stay valid.
   * @param onMissing called for each instance that doesn't report in time.
   */
  expectReports(ownInstanceId: string, onMissing: (instanceId: string) => void): void {
    this.#unreportedIds = new Set(this.#usersByInstance.keys());
    this.#unreportedIds.delete(ownInstanceId);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      for (const instanceId of [...this.#unreportedIds]) onMissing(instanceId);
    }, REPORT_TIMEOUT_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  list(): string[] {
    return [...new Set([...this.#usersByInstance.values()].flatMap((users) => [...users]))];
  }

  listUsers(instanceId: string): string[] {
    return [...(this.#usersByInstance.get(instanceId) ?? [])];
  }
}

const mapToOnline = (userId: string) => ({ userId, online: true });
