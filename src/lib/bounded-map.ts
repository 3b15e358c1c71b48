/** A map that forgets its oldest entry when it is full, so that what fills it from outside cannot fill the memory. */
export class BoundedMap<K, V> extends Map<K, V> {
  constructor(private readonly entriesMax: number) {
    super();
  }

  override set(key: K, value: V): this {
    // Set again, an entry is the newest.
    this.delete(key);
    super.set(key, value);
    if (this.size > this.entriesMax) {
      const oldest = this.keys().next();
      if (!oldest.done) this.delete(oldest.value);
    }
    return this;
  }
}
