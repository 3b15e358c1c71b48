import type { Log } from "../lib/log.ts";
import type { ShutdownComponent } from "../lib/shutdown-components.ts";
import { waitForAbort } from "./signals.ts";

/**
 * Stops all components within `timeoutMs`. Each component stops after the components listed in its `after`. If a component fails
 * or takes too long, that is logged, and the shutdown continues.
 * @param components the components, sorted so that each one follows the components in its `after`.
 * @param stopNow when aborted, `stopInOrder` returns without waiting for the components.
 */
export async function stopInOrder(
  components: readonly ShutdownComponent[],
  { log, timeoutMs, stopNow }: { log: Log; timeoutMs: number; stopNow: AbortSignal },
): Promise<void> {
  const deadlineMs = Date.now() + timeoutMs;
  const stoppedNow = waitForAbort(stopNow);
  const stoppedByName = new Map<string, Promise<void>>();
  for (const component of components) {
    const dependencies = Promise.all((component.after ?? []).map((name) => stoppedByName.get(name)));
    const stop = () =>
      Promise.race([stopComponent(component, stopNow.aborted ? Date.now() : deadlineMs, log), stoppedNow]);
    stoppedByName.set(component.name, dependencies.then(stop));
  }
  await Promise.all(stoppedByName.values());
}

/** Additional time after the deadline for a component to save unfinished work. */
const GRACE_MS = 100;

async function stopComponent({ name, stop }: ShutdownComponent, deadlineMs: number, log: Log): Promise<void> {
  const startedAtMs = performance.now();
  const stopped = stop(deadlineMs).then(
    () => log.debug({ component: name, ms: Math.round(performance.now() - startedAtMs) }, "component stopped"),
    (error: unknown) => log.error({ component: name, err: error }, "component failed to stop"),
  );
  const timeout = Bun.sleep(Math.max(0, deadlineMs - Date.now()) + GRACE_MS).then(() => true);
  if ((await Promise.race([stopped, timeout])) === true)
    log.warn({ component: name }, "component did not stop in time");
}
