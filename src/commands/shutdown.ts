import type { Log } from "../lib/log.ts";
import type { ShutdownPart } from "../lib/shutdown-parts.ts";
import { untilAborted } from "./signals.ts";

/**
 * Stops every component once those it depends on have stopped, all within `timeoutMs`. A component that takes too long or
 * fails is logged and skipped, so that the others still stop.
 * @param parts the components, each after those it waits for.
 * @param hurry once aborted, stops waiting for anything.
 */
export async function stopInOrder(
  parts: readonly ShutdownPart[],
  { log, timeoutMs, hurry }: { log: Log; timeoutMs: number; hurry: AbortSignal },
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  const hurried = untilAborted(hurry);
  const stopped = new Map<string, Promise<void>>();
  for (const part of parts) {
    const before = Promise.all((part.after ?? []).map((name) => stopped.get(name)));
    const stop = () => Promise.race([stopOne(part, hurry.aborted ? Date.now() : deadlineMs, log), hurried]);
    stopped.set(part.name, before.then(stop));
  }
  await Promise.all(stopped.values());
}

/** Extra time after the deadline in which a component can save unfinished work. */
const GRACE_MS = 100;

async function stopOne({ name, stop }: ShutdownPart, deadlineMs: number, log: Log): Promise<void> {
  const startedAt = performance.now();
  const stopped = stop(deadlineMs).then(
    () => log.debug({ part: name, ms: Math.round(performance.now() - startedAt) }, "part stopped"),
    (error: unknown) => log.error({ part: name, err: error }, "part failed to stop"),
  );
  const late = Bun.sleep(Math.max(0, deadlineMs - Date.now()) + GRACE_MS).then(() => true);
  if ((await Promise.race([stopped, late])) === true) log.warn({ part: name }, "part did not stop in time");
}
