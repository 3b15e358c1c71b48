/** The last number received on each channel from each instance, to detect gaps. */
export class Positions {
  readonly #positions = new Map<string, Map<string, number>>();

  /** @returns `next`, `late` (already received), or `hole` if an earlier message did not arrive. */
  record(channel: string, from: string, number: number, previous: number): "next" | "late" | "hole" {
    const ofChannel = this.#positions.get(channel) ?? new Map<string, number>();
    this.#positions.set(channel, ofChannel);
    const last = ofChannel.get(from);
    if (last !== undefined && number <= last) return "late";
    ofChannel.set(from, number);
    // The first one may follow others sent before this instance listened.
    return last === undefined || last === previous ? "next" : "hole";
  }

  /** The channel is no longer subscribed, or subscribed again. */
  forget(channel: string): void {
    this.#positions.delete(channel);
  }

  forgetInstance(from: string): void {
    for (const ofChannel of this.#positions.values()) ofChannel.delete(from);
  }
}
