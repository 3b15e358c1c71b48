/**
 * Pauses and resumes an answer. During a pause, nothing is read from the provider, and its timeouts don't run.
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

  /** Calls `listener` on each change. Returns a function that removes the listener. */
  listen(listener: (isPaused: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
