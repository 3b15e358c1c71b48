/** The number of the last envelope on each channel from each instance, for detecting gaps. */
export class Positions {
  readonly #positions = new Map<string, Map<string, number>>();

  /** Records an envelope. @returns `next`, `late` (already received), or `hole` if an earlier one did not arrive. */
  record(channel: string, from: string, number: number, previous: number): "next" | "late" | "hole" {
    const ofChannel = this.#positions.get(channel) ?? new Map<string, number>();
    this.#positions.set(channel, ofChannel);
    const last = ofChannel.get(from);
    if (last !== undefined && number <= last) return "late";
    ofChannel.set(from, number);
    // Others may have been sent before this instance listened, so the first envelope is never a gap.
    return last === undefined || last === previous ? "next" : "hole";
  }

  /** Forgets a channel that is no longer subscribed, or was subscribed again. */
  forget(channel: string): void {
    this.#positions.delete(channel);
  }

  forgetInstance(from: string): void {
    for (const ofChannel of this.#positions.values()) ofChannel.delete(from);
  }
}
