import type { Log } from "../../lib/log.ts";

/** Tasks at a time; what comes in beyond the waiting ones is left out. */
const TASKS_RUNNING_MAX = 8;
const TASKS_WAITING_MAX = 1_000;

type Task = { name: string; key: string; work(signal: AbortSignal): Promise<void> };

/**
 * What nobody waits for. One task of a key at a time; another one of the same key is left out meanwhile. What fails is
 * logged, and does no harm.
 */
export function createBackground({ log }: { log: Log }) {
  const stopping = new AbortController();
  const running = new Map<string, Promise<void>>();
  const waiting = new Map<string, Task>();

  function begin({ name, key, work }: Task): void {
    const done = work(stopping.signal)
      .catch((error) => log.warn({ err: error, task: name, key }, "background task failed"))
      .finally(() => {
        running.delete(key);
        const [next] = waiting.values();
        if (!next || stopping.signal.aborted) return;
        waiting.delete(next.key);
        begin(next);
      });
    running.set(key, done);
  }

  return {
    /** Runs the task as soon as there is room. */
    run(name: string, id: string, work: Task["work"]): void {
      const task = { name, key: `${name} ${id}`, work };
      if (stopping.signal.aborted || running.has(task.key) || waiting.has(task.key)) return;
      if (running.size < TASKS_RUNNING_MAX) begin(task);
      else if (waiting.size < TASKS_WAITING_MAX) waiting.set(task.key, task);
      else log.warn({ task: name, key: task.key }, "background task left out: too many wait");
    },

    /** Tells all tasks to stop, and waits for them until `deadlineMs` (milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopping.abort();
      waiting.clear();
      await Promise.race([Promise.all(running.values()), Bun.sleep(Math.max(0, deadlineMs - Date.now()))]);
    },
  };
}
