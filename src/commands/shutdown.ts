import type { Drainable } from "../lib/lifecycle.ts";
import type { Log } from "../lib/log.ts";
import { untilAborted } from "./signals.ts";

/**
 * Stops one after the other, all of them within `timeoutMs`. One that takes too long or fails is logged and left behind,
 * so that those after it still get their turn.
 * @param hurry once it is aborted, nothing is waited for any more.
 */
export async function stopInOrder(
  drainables: readonly Drainable[],
  { log, timeoutMs, hurry }: { log: Log; timeoutMs: number; hurry: AbortSignal },
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  const hurried = untilAborted(hurry);
  for (const drainable of drainables)
    await Promise.race([stopOne(drainable, hurry.aborted ? Date.now() : deadlineMs, log), hurried]);
}

/** How much longer than the deadline a part may take: time to notice it, and to put away what is unfinished. */
const GRACE_MS = 100;

async function stopOne({ name, stop }: Drainable, deadlineMs: number, log: Log): Promise<void> {
  const startedAt = performance.now();
  const stopped = stop(deadlineMs).then(
    () => log.debug({ part: name, ms: Math.round(performance.now() - startedAt) }, "a part has stopped"),
    (error: unknown) => log.error({ part: name, err: error }, "a part did not stop in order"),
  );
  const late = Bun.sleep(Math.max(0, deadlineMs - Date.now()) + GRACE_MS).then(() => true);
  if ((await Promise.race([stopped, late])) === true) log.warn({ part: name }, "a part did not stop in time");
}
