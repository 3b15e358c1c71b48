const RealDate = Date;
const readReal = performance.now.bind(performance);

let aheadMs = 0;

class MovedDate extends RealDate {
  constructor(...parts: unknown[]) {
    if (parts.length === 0) super(MovedDate.now());
    else super(...(parts as [number]));
  }

  /** Dates created before the replacement count too, because drivers check it. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof RealDate;
  }

  static override now(): number {
    return RealDate.now() + aheadMs;
  }
}

/**
 * Moves the clock of this process forward: `Date` and `performance.now` are ahead from now on, so that cached or locked
 * entries expire now. Timers and the database keep the real time. Pair it with `afterEach(resetClock)`.
 */
export function advanceClock(ms: number): void {
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
