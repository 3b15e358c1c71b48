import { BoundedCache } from "../../cache/bounded-cache.ts";

/** An instance counts as lost if it sends nothing for this many heartbeats (5 seconds). */
const MISSED_HEARTBEATS_MAX = 10;
/** The maximum number of lost instances to remember, so that an instance that was only frozen is recognized when it resumes. */
const LOST_INSTANCES_MAX = 1_000;

type OtherInstance = { missedHeartbeats: number; lostMessages: number | null };

/** The other instances known to be alive. */
export class OtherInstances {
  readonly #instances = new Map<string, OtherInstance>();
  readonly #lostIds = new BoundedCache<true>({ maxSize: LOST_INSTANCES_MAX });

  list(): string[] {
    return [...this.#instances.keys()];
  }

  get size(): number {
    return this.#instances.size;
  }

  /**
   * Records a message from an instance. @returns whether the instance counted as lost. If so, the two instances may have missed each
   * other's messages.
   */
  onReceived(instanceId: string): boolean {
    const instance = this.#instances.get(instanceId);
    if (instance) {
      instance.missedHeartbeats = 0;
      return false;
    }
    this.#instances.set(instanceId, { missedHeartbeats: 0, lostMessages: null });
    return this.#lostIds.delete(instanceId);
  }

  /** Records how many messages an instance has lost in total. @returns whether the number has changed. */
  recordLostMessages(instanceId: string, count: number): boolean {
    const instance = this.#instances.get(instanceId);
    if (!instance || count === (instance.lostMessages ?? 0)) return false;
    instance.lostMessages = count;
    return true;
  }

  /** Removes an instance that is shutting down. @returns whether it was known. */
  remove(instanceId: string): boolean {
    return this.#instances.delete(instanceId);
  }

  /** Called once per heartbeat interval while the bus is working. @returns the instances that are now lost. */
  tick(): string[] {
    const newlyLostIds: string[] = [];
    for (const [instanceId, instance] of this.#instances) {
      instance.missedHeartbeats += 1;
      if (instance.missedHeartbeats <= MISSED_HEARTBEATS_MAX) continue;
      this.#instances.delete(instanceId);
      this.#lostIds.set(instanceId, true);
      newlyLostIds.push(instanceId);
    }
    return newlyLostIds;
  }
}
