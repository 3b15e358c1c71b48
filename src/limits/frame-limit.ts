import { BURST_S, type Rate, SUSTAINED_S } from "./limiter.ts";
import { MemoryWindow, type Use } from "./memory-window.ts";

/** Cost of a frame, in tenths: clients send `typing` all the time, and it costs next to nothing. */
const FRAME_POINTS = 10;
const TYPING_POINTS = 1;
/** A socket with more refused frames than this within 10 seconds is closed. */
export const REFUSED_FRAMES_MAX = 200;
const REFUSED_WINDOW_MS = 10_000;

/** Counters of one socket; its windows begin with its first frame. */
export class FrameMeter {
  readonly burst: Use = { points: 0, endsAtMs: 0 };
  readonly sustained: Use = { points: 0, endsAtMs: 0 };
  #refused: Use = { points: 0, endsAtMs: 0 };

  /** Counts a refused frame. @returns whether the socket must be closed. */
  refuse(nowMs: number): boolean {
    count(this.#refused, 1, REFUSED_WINDOW_MS, nowMs);
    return this.#refused.points > REFUSED_FRAMES_MAX;
  }
}

function count(use: Use, points: number, durationMs: number, nowMs: number): void {
  if (use.endsAtMs <= nowMs) {
    use.points = 0;
    use.endsAtMs = nowMs + durationMs;
  }
  use.points += points;
}

export type FrameLimit = {
  /** Counts a frame. @returns how long its sender has to wait, in milliseconds; 0 when the frame is allowed. */
  take(meter: FrameMeter, userId: string | null, type: string): number;
};

export const noFrameLimit: FrameLimit = { take: () => 0 };

/**
 * Limits the frames of each socket, and of each user over all of their sockets. Counted by this instance only, never in
 * Redis: a socket stays on its instance, and a request per frame would cost more than the frame.
 */
export function createFrameLimit(rates: { socket: Rate; user: Rate }): FrameLimit {
  const { socket, user } = { socket: inPoints(rates.socket), user: inPoints(rates.user) };
  const users = {
    burst: new MemoryWindow({ points: user.burst, durationS: BURST_S }),
    sustained: new MemoryWindow({ points: user.sustained, durationS: SUSTAINED_S }),
  };

  return {
    take(meter, userId, type) {
      const nowMs = Date.now();
      const points = type.startsWith("typing.") ? TYPING_POINTS : FRAME_POINTS;
      count(meter.burst, points, BURST_S * 1_000, nowMs);
      if (meter.burst.points > socket.burst) return waitFor(meter.burst, nowMs);
      count(meter.sustained, points, SUSTAINED_S * 1_000, nowMs);
      if (meter.sustained.points > socket.sustained) return waitFor(meter.sustained, nowMs);
      if (userId === null) return 0;
      const burst = users.burst.hit(userId, points);
      if (burst.points > user.burst) return waitFor(burst, nowMs);
      const sustained = users.sustained.hit(userId, points);
      return sustained.points > user.sustained ? waitFor(sustained, nowMs) : 0;
    },
  };
}

const inPoints = ({ burst, sustained }: Rate): Rate => ({
  burst: burst * FRAME_POINTS,
  sustained: sustained * FRAME_POINTS,
});

const waitFor = ({ endsAtMs }: Use, nowMs: number): number => Math.max(1, endsAtMs - nowMs);
