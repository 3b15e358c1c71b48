import { BoundedCache } from "../../cache/bounded-cache.ts";

/** Beats without a message after which an instance counts as gone: 5 seconds. */
const SILENT_BEATS_MAX = 10;
/** Instances that have gone, so that a frozen one is recognised when it returns. */
const GONE_MAX = 1_000;

type Peer = { silentBeats: number; lost: number | null };

/** The other instances known to be alive. */
export class Peers {
  readonly #peers = new Map<string, Peer>();
  readonly #gone = new BoundedCache<true>({ max: GONE_MAX });

  list(): string[] {
    return [...this.#peers.keys()];
  }

  get size(): number {
    return this.#peers.size;
  }

  /** An instance was received. @returns whether it was assumed gone, so both may have missed messages of each other. */
  hear(instanceId: string): boolean {
    const peer = this.#peers.get(instanceId);
    if (peer) {
      peer.silentBeats = 0;
      return false;
    }
    this.#peers.set(instanceId, { silentBeats: 0, lost: null });
    return this.#gone.delete(instanceId);
  }

  /** @param lost the instance's total of unsent messages. @returns whether it has increased. */
  takeLost(instanceId: string, lost: number): boolean {
    const peer = this.#peers.get(instanceId);
    if (!peer || lost === (peer.lost ?? 0)) return false;
    peer.lost = lost;
    return true;
  }

  /** It has said goodbye. @returns whether it was known. */
  remove(instanceId: string): boolean {
    return this.#peers.delete(instanceId);
  }

  /** A beat interval has passed in which others were received. @returns the instances that have gone. */
  beat(): string[] {
    const gone: string[] = [];
    for (const [instanceId, peer] of this.#peers) {
      peer.silentBeats += 1;
      if (peer.silentBeats <= SILENT_BEATS_MAX) continue;
      this.#peers.delete(instanceId);
      this.#gone.set(instanceId, true);
      gone.push(instanceId);
    }
    return gone;
  }
}
