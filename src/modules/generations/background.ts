import type { Log } from "../../lib/log.ts";

/** Maximum number of concurrent tasks. */
const TASKS_RUNNING_MAX = 8;
/** Maximum number of queued tasks. Further tasks are skipped. */
const TASKS_QUEUED_MAX = 1_000;

type Task = { name: string; id: string; key: string; about: object; work(signal: AbortSignal): Promise<void> };

/**
 * Creates a queue of best-effort background tasks. A task is skipped if another one with the same key is running or queued. Failures are
 * only logged.
 */
export function createBackground({ log }: { log: Log }) {
  const stopController = new AbortController();
  const running = new Map<string, { id: string; aborter: AbortController; done: Promise<void> }>();
  const queued = new Map<string, Task>();

  function startTask({ name, id, key, about, work }: Task): void {
    const aborter = new AbortController();
    const done = work(AbortSignal.any([stopController.signal, aborter.signal]))
      .catch((error) => log.warn({ err: error, ...about, task: name, key }, "background task failed"))
      .finally(() => {
        running.delete(key);
        const [next] = queued.values();
        if (!next || stopController.signal.aborted) return;
        queued.delete(next.key);
        startTask(next);
      });
    running.set(key, { id, aborter, done });
  }

  return {
    /** Runs a task when a slot is free. @param logFields fields for its log lines. */
    run(name: string, id: string, work: Task["work"], logFields: object = {}): void {
      const task = { name, id, key: `${name} ${id}`, about: logFields, work };
      if (stopController.signal.aborted || running.has(task.key) || queued.has(task.key)) return;
      if (running.size < TASKS_RUNNING_MAX) startTask(task);
      else if (queued.size < TASKS_QUEUED_MAX) queued.set(task.key, task);
      else log.warn({ task: name, key: task.key }, "background task skipped: the queue is full");
    },

    /** Lists the ids of running tasks. */
    listIds: (): string[] => [...running.values()].map(({ id }) => id),

    /** Aborts the running tasks with these ids and removes the queued ones. */
    abort(ids: ReadonlySet<string>): void {
      for (const [key, { id }] of queued) if (ids.has(id)) queued.delete(key);
      for (const { id, aborter } of running.values()) if (ids.has(id)) aborter.abort();
    },

    /** Aborts all tasks and waits for them until `deadlineMs` (milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopController.abort();
      queued.clear();
      await Promise.race([
        Promise.all([...running.values()].map(({ done }) => done)),
        Bun.sleep(Math.max(0, deadlineMs - Date.now())),
      ]);
    },
  };
}
