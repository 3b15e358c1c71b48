/**
 * Lets the reader of an answer hold it back, as an AbortSignal lets them end it: the provider is not read meanwhile, and
 * its silence does not count.
 */
export class PauseSignal {
  #isPaused = false;
  readonly #listeners = new Set<(isPaused: boolean) => void>();

  get isPaused(): boolean {
    return this.#isPaused;
  }

  set(isPaused: boolean): void {
    if (this.#isPaused === isPaused) return;
    this.#isPaused = isPaused;
    for (const listener of this.#listeners) listener(isPaused);
  }

  /** Calls `listener` at each change. @returns what ends that. */
  listen(listener: (isPaused: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
