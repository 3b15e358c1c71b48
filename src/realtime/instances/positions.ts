/** What arrived on each channel from each instance: so that a hole is noticed. */
export class Positions {
  readonly #positions = new Map<string, Map<string, number>>();

  /** @returns `next`, `late` (it was taken in before), or `hole` if something before it did not arrive. */
  take(channel: string, from: string, number: number, previous: number): "next" | "late" | "hole" {
    const ofChannel = this.#positions.get(channel) ?? new Map<string, number>();
    this.#positions.set(channel, ofChannel);
    const last = ofChannel.get(from);
    if (last !== undefined && number <= last) return "late";
    ofChannel.set(from, number);
    // The first one to arrive may follow others that were sent before this instance listened.
    return last === undefined || last === previous ? "next" : "hole";
  }

  /** The channel is heard no longer, or anew. */
  forget(channel: string): void {
    this.#positions.delete(channel);
  }

  forgetInstance(from: string): void {
    for (const ofChannel of this.#positions.values()) ofChannel.delete(from);
  }
}
