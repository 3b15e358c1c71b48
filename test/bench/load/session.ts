import { type ProtocolName, protocols } from "./protocols.ts";
import { openSockets, type RawSocket } from "./raw-socket.ts";

export type LoadTarget = { protocol: ProtocolName; url: string; token: string };

/** Receives every ack and push, with its size in bytes. The payload is valid only during the call. */
type Listener = {
  onAck(index: number, bytes: number): void;
  onPush(index: number, bytes: number, payload: Buffer): void;
};

/** Opens authenticated connections to a server. */
export async function openSessions(target: LoadTarget, count: number, listener: Listener) {
  const protocol = protocols[target.protocol];
  const ready = createCountdown(count);
  const sockets = await openSockets(
    Array.from({ length: count }, (_, index) => ({
      url: `${target.url}${protocol.path}`,
      headers: protocol.createHeaders(target.token),
      onText(payload: Buffer, socket: RawSocket) {
        const kind = protocol.classify(payload);
        if (kind === "ack") listener.onAck(index, payload.length);
        else if (kind === "push") listener.onPush(index, payload.length, payload);
        else if (kind === "ready") ready.countDown();
        else if (kind === "keepalive") socket.send(protocol.keepaliveFrame);
      },
    })),
  );
  if (protocol.connectFrame) for (const socket of sockets) socket.send(protocol.connectFrame);
  await ready.done;
  return { sockets, protocol };
}

/** Creates a promise that resolves after `countDown` was called this many times. */
export function createCountdown(count: number): { countDown(): void; done: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let remaining = count;
  return {
    countDown() {
      remaining -= 1;
      if (remaining === 0) resolve();
    },
    done: promise,
  };
}
