import { BURST_S, type Rate, SUSTAINED_S } from "./limiter.ts";
import { MemoryWindow, type WindowUsage } from "./memory-window.ts";

/** The cost of a frame. A `typing` frame costs a tenth of any other frame, because it is frequent and cheap. */
const FRAME_POINTS = 10;
const TYPING_POINTS = 1;
/** Maximum number of rejected frames in 10 seconds. If there are more, the socket is closed. */
export const REJECTED_FRAMES_MAX = 200;
const REJECTED_WINDOW_MS = 10_000;

/** The counters of one socket. */
export class FrameMeter {
  readonly burst: WindowUsage = { points: 0, endsAtMs: 0 };
  readonly sustained: WindowUsage = { points: 0, endsAtMs: 0 };
  #rejected: WindowUsage = { points: 0, endsAtMs: 0 };

  /** Counts a rejected frame. Returns whether the socket must be closed. */
  reject(nowMs: number): boolean {
    countPoints(this.#rejected, 1, REJECTED_WINDOW_MS, nowMs);
    return this.#rejected.points > REJECTED_FRAMES_MAX;
  }
}

function countPoints(usage: WindowUsage, points: number, durationMs: number, nowMs: number): void {
  if (usage.endsAtMs <= nowMs) {
    usage.points = 0;
    usage.endsAtMs = nowMs + durationMs;
  }
  usage.points += points;
}

export type FrameLimit = {
  /** Counts a frame. Returns the milliseconds after which it may be sent again, or 0 if it is allowed. */
  count(meter: FrameMeter, userId: string | null, type: string): number;
};

export const noFrameLimit: FrameLimit = { count: () => 0 };

/**
 * Creates the limit for the frames of each socket and of all sockets of a user. Each instance counts its own frames, because a
 * request to Redis would cost more than a frame.
 */
export function createFrameLimit(rates: { socket: Rate; user: Rate }): FrameLimit {
  const { socket, user } = { socket: toPoints(rates.socket), user: toPoints(rates.user) };
  const users = {
    burst: new MemoryWindow({ points: user.burst, durationS: BURST_S }),
    sustained: new MemoryWindow({ points: user.sustained, durationS: SUSTAINED_S }),
  };

  return {
    count(meter, userId, type) {
      const nowMs = Date.now();
      const points = type.startsWith("typing.") ? TYPING_POINTS : FRAME_POINTS;
      countPoints(meter.burst, points, BURST_S * 1_000, nowMs);
      if (meter.burst.points > socket.burst) return getWaitMs(meter.burst, nowMs);
      countPoints(meter.sustained, points, SUSTAINED_S * 1_000, nowMs);
      if (meter.sustained.points > socket.sustained) return getWaitMs(meter.sustained, nowMs);
      if (userId === null) return 0;
      const burst = users.burst.hit(userId, points);
      if (burst.points > user.burst) return getWaitMs(burst, nowMs);
      const sustained = users.sustained.hit(userId, points);
      return sustained.points > user.sustained ? getWaitMs(sustained, nowMs) : 0;
    },
  };
}

const toPoints = ({ burst, sustained }: Rate): Rate => ({
  burst: burst * FRAME_POINTS,
  sustained: sustained * FRAME_POINTS,
});

const getWaitMs = ({ endsAtMs }: WindowUsage, nowMs: number): number => Math.max(1, endsAtMs - nowMs);
