type Entry<K, V> = { key: K; value: V; previous: Entry<K, V>; next: Entry<K, V> };

/**
 * A round-robin queue of values by key, with constant-time operations. A `Map` would have to skip all deleted entries to find its
 * first key.
 */
export class Ring<K, V> {
  readonly #entries = new Map<K, Entry<K, V>>();
  #first: Entry<K, V> | null = null;

  get size(): number {
    return this.#entries.size;
  }

  /** Returns the first value. */
  get first(): V | undefined {
    return this.#first?.value;
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Adds a value at the end. The key must be new. */
  add(key: K, value: V): void {
    const entry = { key, value } as Entry<K, V>;
    const first = this.#first ?? entry;
    const last = this.#first?.previous ?? entry;
    entry.next = first;
    entry.previous = last;
    last.next = entry;
    first.previous = entry;
    this.#first = first;
    this.#entries.set(key, entry);
  }

  /** Deletes a value. Returns whether the key existed. */
  delete(key: K): boolean {
    const entry = this.#entries.get(key);
    if (!entry) return false;
    this.#entries.delete(key);
    entry.previous.next = entry.next;
    entry.next.previous = entry.previous;
    if (this.#entries.size === 0) this.#first = null;
    else if (this.#first === entry) this.#first = entry.next;
    return true;
  }

  /** Removes and returns the first value. */
  shift(): V | undefined {
    const first = this.#first;
    if (first) this.delete(first.key);
    return first?.value;
  }

  /** Moves the first value to the end. */
  rotate(): void {
    this.#first = this.#first?.next ?? null;
  }
}
