import type { Log } from "../lib/log.ts";
import type { ShutdownPart } from "../lib/shutdown-parts.ts";
import { waitForAbort } from "./signals.ts";

/**
 * Stops all components within `timeoutMs`. Each one stops after the components that it names in `after`. If a component fails
 * or takes too long, this is logged, and the shutdown continues.
 * @param parts the components, sorted so that each one follows the components in its `after`.
 * @param stopNow when aborted, `stopInOrder` returns without waiting for the components.
 */
export async function stopInOrder(
  parts: readonly ShutdownPart[],
  { log, timeoutMs, stopNow }: { log: Log; timeoutMs: number; stopNow: AbortSignal },
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  const stoppedNow = waitForAbort(stopNow);
  const stopped = new Map<string, Promise<void>>();
  for (const part of parts) {
    const dependencies = Promise.all((part.after ?? []).map((name) => stopped.get(name)));
    const stop = () => Promise.race([stopOne(part, stopNow.aborted ? Date.now() : deadlineMs, log), stoppedNow]);
    stopped.set(part.name, dependencies.then(stop));
  }
  await Promise.all(stopped.values());
}

/** Additional time after the deadline for a component to save unfinished work. */
const GRACE_MS = 100;

async function stopOne({ name, stop }: ShutdownPart, deadlineMs: number, log: Log): Promise<void> {
  const startedAt = performance.now();
  const stopped = stop(deadlineMs).then(
    () => log.debug({ part: name, ms: Math.round(performance.now() - startedAt) }, "part stopped"),
    (error: unknown) => log.error({ part: name, err: error }, "part failed to stop"),
  );
  const timeout = Bun.sleep(Math.max(0, deadlineMs - Date.now()) + GRACE_MS).then(() => true);
  if ((await Promise.race([stopped, timeout])) === true) log.warn({ part: name }, "part did not stop in time");
}
