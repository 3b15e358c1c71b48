/** The number of the last envelope from each instance on each channel, used to detect gaps. */
export class EnvelopeNumbers {
  readonly #numbers = new Map<string, Map<string, number>>();

  /** Records an envelope. @returns `repeated` if it was already received, or `gap` if an earlier one didn't arrive. */
  record(channel: string, senderId: string, number: number, previous: number): "next" | "repeated" | "gap" {
    const channelNumbers = this.#numbers.get(channel) ?? new Map<string, number>();
    this.#numbers.set(channel, channelNumbers);
    const last = channelNumbers.get(senderId);
    if (last !== undefined && number <= last) return "repeated";
    channelNumbers.set(senderId, number);
    // Earlier envelopes may have been sent before this instance subscribed, so there is never a gap before the first envelope.
    return last === undefined || last === previous ? "next" : "gap";
  }

  /** Forgets a channel after its subscription has ended or been renewed. */
  forget(channel: string): void {
    this.#numbers.delete(channel);
  }

  forgetInstance(senderId: string): void {
    for (const channelNumbers of this.#numbers.values()) channelNumbers.delete(senderId);
  }
}
