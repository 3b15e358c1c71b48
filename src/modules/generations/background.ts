import type { Log } from "../../lib/log.ts";

/** Maximum concurrent tasks. */
const TASKS_RUNNING_MAX = 8;
/** Maximum queued tasks; further ones are skipped. */
const TASKS_QUEUED_MAX = 1_000;

type Task = { name: string; id: string; key: string; about: object; work(signal: AbortSignal): Promise<void> };

/**
 * Best-effort background tasks. Only one task per key runs at a time; a second one with the same key is skipped. Failures
 * are logged and ignored.
 */
export function createBackground({ log }: { log: Log }) {
  const stopping = new AbortController();
  const running = new Map<string, { id: string; aborter: AbortController; done: Promise<void> }>();
  const queued = new Map<string, Task>();

  function begin({ name, id, key, about, work }: Task): void {
    const aborter = new AbortController();
    const done = work(AbortSignal.any([stopping.signal, aborter.signal]))
      .catch((error) => log.warn({ err: error, ...about, task: name, key }, "background task failed"))
      .finally(() => {
        running.delete(key);
        const [next] = queued.values();
        if (!next || stopping.signal.aborted) return;
        queued.delete(next.key);
        begin(next);
      });
    running.set(key, { id, aborter, done });
  }

  return {
    /** Runs a task when a slot is free. @param about what the task is for, as log fields. */
    run(name: string, id: string, work: Task["work"], about: object = {}): void {
      const task = { name, id, key: `${name} ${id}`, about, work };
      if (stopping.signal.aborted || running.has(task.key) || queued.has(task.key)) return;
      if (running.size < TASKS_RUNNING_MAX) begin(task);
      else if (queued.size < TASKS_QUEUED_MAX) queued.set(task.key, task);
      else log.warn({ task: name, key: task.key }, "background task skipped: the queue is full");
    },

    /** The ids that running tasks belong to. */
    listIds: (): string[] => [...running.values()].map(({ id }) => id),

    /** Aborts the running tasks for these ids and drops the queued ones. */
    end(ids: ReadonlySet<string>): void {
      for (const [key, { id }] of queued) if (ids.has(id)) queued.delete(key);
      for (const { id, aborter } of running.values()) if (ids.has(id)) aborter.abort();
    },

    /** Aborts all tasks and waits for them until `deadlineMs` (milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopping.abort();
      queued.clear();
      await Promise.race([
        Promise.all([...running.values()].map(({ done }) => done)),
        Bun.sleep(Math.max(0, deadlineMs - Date.now())),
      ]);
    },
  };
}
