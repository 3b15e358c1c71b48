const OriginalDate = Date;
const originalNow = performance.now.bind(performance);

let offsetMs = 0;

class ShiftedDate extends OriginalDate {
  constructor(...args: unknown[]) {
    if (args.length === 0) super(ShiftedDate.now());
    else super(...(args as [number]));
  }

  /** Makes `instanceof Date` true for dates that were created before the clock was advanced. Drivers rely on it. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return value instanceof OriginalDate;
  }

  static override now(): number {
    return OriginalDate.now() + offsetMs;
  }
}

/**
 * Advances `Date` and `performance.now` in this process, for example to expire cache entries. Timers and the database
 * still use the real time. Call `afterEach(resetClock)` in each file that uses this function.
 */
export function advanceClock(ms: number): void {
  offsetMs += ms;
  globalThis.Date = ShiftedDate as DateConstructor;
  performance.now = () => originalNow() + offsetMs;
}

/** Resets the clock to the real time. */
export function resetClock(): void {
  offsetMs = 0;
  globalThis.Date = OriginalDate;
  performance.now = originalNow;
}
