type Entry<K, V> = { key: K; value: V; previous: Entry<K, V>; next: Entry<K, V> };

/**
 * Values that take turns, each under a key. Every step takes the same time, however many there are. A `Map` keeps an order
 * as well, but looks for its first key among all that were deleted before it.
 */
export class Ring<K, V> {
  readonly #entries = new Map<K, Entry<K, V>>();
  #first: Entry<K, V> | null = null;

  get size(): number {
    return this.#entries.size;
  }

  /** The value whose turn it is. */
  get first(): V | undefined {
    return this.#first?.value;
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Adds a value behind all others. @param key a new one. */
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

  /** @returns whether there was such a key. */
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

  /** Takes the first out. */
  shift(): V | undefined {
    const first = this.#first;
    if (first) this.delete(first.key);
    return first?.value;
  }

  /** The first becomes the last. */
  turn(): void {
    this.#first = this.#first?.next ?? null;
  }
}
