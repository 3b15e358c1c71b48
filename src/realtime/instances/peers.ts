import { BoundedCache } from "../../cache/bounded-cache.ts";

/** Beats without a word of an instance after which it counts as gone: 5 seconds. */
const SILENT_BEATS_MAX = 10;
/** Instances that have gone, so that one that was only frozen is known when it comes back. */
const GONE_MAX = 1_000;

type Peer = { silentBeats: number; lost: number | null };

/** The other instances, as far as they are heard. */
export class Peers {
  readonly #peers = new Map<string, Peer>();
  readonly #gone = new BoundedCache<true>({ max: GONE_MAX });

  list(): string[] {
    return [...this.#peers.keys()];
  }

  get size(): number {
    return this.#peers.size;
  }

  /** An instance was heard. @returns whether it had been taken for gone, so that both may have missed each other. */
  hear(instanceId: string): boolean {
    const peer = this.#peers.get(instanceId);
    if (peer) {
      peer.silentBeats = 0;
      return false;
    }
    this.#peers.set(instanceId, { silentBeats: 0, lost: null });
    return this.#gone.delete(instanceId);
  }

  /** @param lost messages that the instance has not sent, all in all. @returns whether some of them are news. */
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

  /** The time of a beat has passed in which others were heard. @returns those that have gone. */
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
