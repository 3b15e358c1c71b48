import { BoundedCache } from "../../cache/bounded-cache.ts";

/** An instance counts as lost if it sends nothing for this many heartbeats (5 seconds). */
const MISSED_HEARTBEATS_MAX = 10;
/** The maximum number of lost instances to remember. An instance that was only frozen is recognized when it resumes. */
const LOST_INSTANCES_MAX = 1_000;

type OtherInstance = { missedHeartbeats: number; lost: number | null };

/** The other instances known to be alive. */
export class OtherInstances {
  readonly #instances = new Map<string, OtherInstance>();
  readonly #lostIds = new BoundedCache<true>({ max: LOST_INSTANCES_MAX });

  list(): string[] {
    return [...this.#instances.keys()];
  }

  get size(): number {
    return this.#instances.size;
  }

  /**
   * Records a message from an instance. @returns whether it counted as lost. If so, both instances may have missed each other's messages.
   */
  onReceived(instanceId: string): boolean {
    const instance = this.#instances.get(instanceId);
    if (instance) {
      instance.missedHeartbeats = 0;
      return false;
    }
    this.#instances.set(instanceId, { missedHeartbeats: 0, lost: null });
    return this.#lostIds.delete(instanceId);
  }

  /** Records how many messages an instance has lost in total. @returns whether the number has changed. */
  recordLost(instanceId: string, lost: number): boolean {
    const instance = this.#instances.get(instanceId);
    if (!instance || lost === (instance.lost ?? 0)) return false;
    instance.lost = lost;
    return true;
  }

  /** Removes an instance that is shutting down. @returns whether it was known. */
  remove(instanceId: string): boolean {
    return this.#instances.delete(instanceId);
  }

  /** Called once per heartbeat interval while the bus works. @returns the instances that are now lost. */
  tick(): string[] {
    const newlyLost: string[] = [];
    for (const [instanceId, instance] of this.#instances) {
      instance.missedHeartbeats += 1;
      if (instance.missedHeartbeats <= MISSED_HEARTBEATS_MAX) continue;
      this.#instances.delete(instanceId);
      this.#lostIds.set(instanceId, true);
      newlyLost.push(instanceId);
    }
    return newlyLost;
  }
}
