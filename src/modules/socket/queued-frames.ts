import type { ClientFrame } from "../../protocol/frames.ts";

/** The total bytes of the queued frames of all connections. */
export class QueuedBytes {
  bytes = 0;
}

/** The frames of one connection that are queued behind the one in progress, in order. */
export class QueuedFrames {
  #frames: { frame: ClientFrame; bytes: number }[] = [];

  get length(): number {
    return this.#frames.length;
  }

  add(frame: ClientFrame, bytes: number, total: QueuedBytes): void {
    total.bytes += bytes;
    this.#frames.push({ frame, bytes });
  }

  shift(total: QueuedBytes): ClientFrame | undefined {
    const queued = this.#frames.shift();
    if (queued) total.bytes -= queued.bytes;
    return queued?.frame;
  }

  /** Call this when the connection has closed. */
  clear(total: QueuedBytes): void {
    for (const { bytes } of this.#frames.splice(0)) total.bytes -= bytes;
  }
}
