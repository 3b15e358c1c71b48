import type { ClientFrame } from "../../protocol/frames.ts";

/** Bytes of the frames that wait, of all connections together. */
export class WaitingBytes {
  sum = 0;
}

/** Frames of one connection behind one that is still being answered, in their order. */
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

  /** Of a connection that has ended. */
  clear(all: WaitingBytes): void {
    for (const { bytes } of this.#frames.splice(0)) all.sum -= bytes;
  }
}
