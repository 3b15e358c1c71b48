const RealDate = Date;
const readReal = performance.now.bind(performance);

let aheadMs = 0;

class MovedDate extends RealDate {
  constructor(...parts: unknown[]) {
    if (parts.length === 0) super(MovedDate.now());
    else super(...(parts as [number]));
  }

  /** Of those that were made before as well: drivers ask for it. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof RealDate;
  }

  static override now(): number {
    return RealDate.now() + aheadMs;
  }
}

/**
 * Moves the clock of this process on, at once: `Date` and `performance.now` are ahead from here on, so that what is kept
 * or locked for a time ends now. Timers and the database keep their own time. Pair it with `afterEach(resetClock)`.
 */
export function passTime(ms: number): void {
  aheadMs += ms;
  globalThis.Date = MovedDate as DateConstructor;
  performance.now = () => readReal() + aheadMs;
}

/** Back to the real time. */
export function resetClock(): void {
  aheadMs = 0;
  globalThis.Date = RealDate;
  performance.now = readReal;
}
