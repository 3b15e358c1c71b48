import { BoundedCache } from "../../cache/bounded-cache.ts";

/** An instance that sends nothing for this many heartbeats counts as lost: 5 seconds. */
const MISSED_HEARTBEATS_MAX = 10;
/** Remembered lost instances, so that a frozen one is recognized when it returns. */
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

  /** An instance was received. @returns whether it counted as lost, so both may have missed messages of each other. */
  onReceived(instanceId: string): boolean {
    const peer = this.#peers.get(instanceId);
    if (peer) {
      peer.missedHeartbeats = 0;
      return false;
    }
    this.#peers.set(instanceId, { missedHeartbeats: 0, lost: null });
    return this.#lostPeers.delete(instanceId);
  }

  /** @param lost the instance's total of unsent messages. @returns whether it has increased. */
  recordLost(instanceId: string, lost: number): boolean {
    const peer = this.#peers.get(instanceId);
    if (!peer || lost === (peer.lost ?? 0)) return false;
    peer.lost = lost;
    return true;
  }

  /** The instance is shutting down. @returns whether it was known. */
  remove(instanceId: string): boolean {
    return this.#peers.delete(instanceId);
  }

  /** A heartbeat interval has passed in which others were received. @returns the instances that are now lost. */
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
