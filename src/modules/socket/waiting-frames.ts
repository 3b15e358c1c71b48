import type { ClientFrame } from "../../protocol/frames.ts";

/** Bytes of queued frames over all connections. */
export class WaitingBytes {
  sum = 0;
}

/** Frames of one connection queued behind one in progress, in order. */
export class WaitingFrames {
  #frames: { frame: ClientFrame; bytes: number }[] = [];

  get length(): number {
    return this.#frames.length;
  }

  add(frame: ClientFrame, bytes: number, all: WaitingBytes): void {
    all.sum += bytes;
    this.#frames.push({ frame, bytes });
  }

  take(all: WaitingBytes): ClientFrame | undefined {
    const first = this.#frames.shift();
    if (first) all.sum -= first.bytes;
    return first?.frame;
  }

  /** Called when the connection has ended. */
  clear(all: WaitingBytes): void {
    for (const { bytes } of this.#frames.splice(0)) all.sum -= bytes;
  }
}
