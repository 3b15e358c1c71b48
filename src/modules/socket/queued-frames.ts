import type { ClientFrame } from "../../protocol/frames.ts";

/** The bytes of queued frames over all connections. */
export class QueuedBytes {
  sum = 0;
}

/** The frames of one connection that are queued behind the one in progress, in order. */
export class QueuedFrames {
  #frames: { frame: ClientFrame; bytes: number }[] = [];

  get length(): number {
    return this.#frames.length;
  }

  add(frame: ClientFrame, bytes: number, total: QueuedBytes): void {
    total.sum += bytes;
    this.#frames.push({ frame, bytes });
  }

  take(total: QueuedBytes): ClientFrame | undefined {
    const first = this.#frames.shift();
    if (first) total.sum -= first.bytes;
    return first?.frame;
  }

  /** Called when the connection has ended. */
  clear(total: QueuedBytes): void {
    for (const { bytes } of this.#frames.splice(0)) total.sum -= bytes;
  }
}
