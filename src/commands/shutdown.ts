import type { Log } from "../lib/log.ts";
import type { Part } from "../lib/parts.ts";
import { untilAborted } from "./signals.ts";

/**
 * Stops every part once those it stops after have stopped, all of them within `timeoutMs`. One that takes too long or
 * fails is logged and left behind, so that those after it still get their turn.
 * @param parts in an order in which each comes behind those it stops after.
 * @param hurry once it is aborted, nothing is waited for any more.
 */
export async function stopInOrder(
  parts: readonly Part[],
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

/** How much longer than the deadline a part may take: time to notice it, and to put away what is unfinished. */
const GRACE_MS = 100;

async function stopOne({ name, stop }: Part, deadlineMs: number, log: Log): Promise<void> {
  const startedAt = performance.now();
  const stopped = stop(deadlineMs).then(
    () => log.debug({ part: name, ms: Math.round(performance.now() - startedAt) }, "a part has stopped"),
    (error: unknown) => log.error({ part: name, err: error }, "a part did not stop in order"),
  );
  const late = Bun.sleep(Math.max(0, deadlineMs - Date.now()) + GRACE_MS).then(() => true);
  if ((await Promise.race([stopped, late])) === true) log.warn({ part: name }, "a part did not stop in time");
}
