import { BoundedCache } from "../../cache/bounded-cache.ts";

/** An instance counts as lost if it sends nothing for this many heartbeats (5 seconds). */
const MISSED_HEARTBEATS_MAX = 10;
/** The maximum number of lost instances to remember, so that a frozen one is recognized when it returns. */
const LOST_PEERS_MAX = 1_000;

type Peer = { missedHeartbeats: number; lost: number | null };

/** The other instances known to be alive. */
export class Peers {
  readonly #peers = new Map<string, Peer>();
  readonly #lostPeers = new BoundedCache<true>({ max: LOST_PEERS_MAX });

  list(): string[] {
    return [...this.#peers.keys()];
  }

  get size(): number {
    return this.#peers.size;
  }

  /** Records a message of an instance. @returns whether it counted as lost, so that both may have missed the other's messages. */
  onReceived(instanceId: string): boolean {
    const peer = this.#peers.get(instanceId);
    if (peer) {
      peer.missedHeartbeats = 0;
      return false;
    }
    this.#peers.set(instanceId, { missedHeartbeats: 0, lost: null });
    return this.#lostPeers.delete(instanceId);
  }

  /** Records an instance's total of lost messages. @returns whether it has increased. */
  recordLost(instanceId: string, lost: number): boolean {
    const peer = this.#peers.get(instanceId);
    if (!peer || lost === (peer.lost ?? 0)) return false;
    peer.lost = lost;
    return true;
  }

  /** Removes an instance that is shutting down. @returns whether it was known. */
  remove(instanceId: string): boolean {
    return this.#peers.delete(instanceId);
  }

  /** Counts a heartbeat interval in which the bus worked. @returns the instances that are now lost. */
  tick(): string[] {
    const lostPeers: string[] = [];
    for (const [instanceId, peer] of this.#peers) {
      peer.missedHeartbeats += 1;
      if (peer.missedHeartbeats <= MISSED_HEARTBEATS_MAX) continue;
      this.#peers.delete(instanceId);
      this.#lostPeers.set(instanceId, true);
      lostPeers.push(instanceId);
    }
    return lostPeers;
  }
}
