/**
 * Lets the reader of an answer pause it, as an AbortSignal lets them end it. While paused, the provider isn't read and its
 * silence doesn't count.
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

  /** Calls `listener` at each change. @returns a function that unsubscribes. */
  listen(listener: (isPaused: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
