import { type DialectName, dialects } from "./dialects.ts";
import { connectAll, type Wire } from "./wire.ts";

export type Target = { dialect: DialectName; url: string; token: string };

/** Called for every ack and push, with its size; its bytes are only valid during the call. */
type Listener = {
  onAck(index: number, bytes: number): void;
  onPush(index: number, bytes: number, payload: Buffer): void;
};

/** Many connections to one server, all authenticated. */
export async function openSessions(target: Target, count: number, listener: Listener) {
  const dialect = dialects[target.dialect];
  const ready = createCountdown(count);
  const wires = await connectAll(
    Array.from({ length: count }, (_, index) => ({
      url: `${target.url}${dialect.path}`,
      headers: dialect.headers(target.token),
      onText(payload: Buffer, wire: Wire) {
        const meaning = dialect.read(payload);
        if (meaning === "ack") listener.onAck(index, payload.length);
        else if (meaning === "push") listener.onPush(index, payload.length, payload);
        else if (meaning === "ready") ready.step();
        else if (meaning === "keepalive") wire.send(dialect.keepalive);
      },
    })),
  );
  if (dialect.hello) for (const wire of wires) wire.send(dialect.hello);
  await ready.done;
  return { wires, dialect };
}

/** A promise that resolves after this many steps. */
export function createCountdown(steps: number): { step(): void; done: Promise<void> } {
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = steps;
  return {
    step() {
      left -= 1;
      if (left === 0) resolve();
    },
    done: promise,
  };
}
