import type { Log } from "../../lib/log.ts";

/** Tasks at a time; what comes in beyond the waiting ones is left out. */
const TASKS_RUNNING_MAX = 8;
const TASKS_WAITING_MAX = 1_000;

type Task = { name: string; id: string; key: string; about: object; work(signal: AbortSignal): Promise<void> };

/**
 * What nobody waits for. One task of a key at a time; another one of the same key is left out meanwhile. What fails is
 * logged, and does no harm.
 */
export function createBackground({ log }: { log: Log }) {
  const stopping = new AbortController();
  const running = new Map<string, { id: string; ending: AbortController; done: Promise<void> }>();
  const waiting = new Map<string, Task>();

  function begin({ name, id, key, about, work }: Task): void {
    const ending = new AbortController();
    const done = work(AbortSignal.any([stopping.signal, ending.signal]))
      .catch((error) => log.warn({ err: error, ...about, task: name, key }, "background task failed"))
      .finally(() => {
        running.delete(key);
        const [next] = waiting.values();
        if (!next || stopping.signal.aborted) return;
        waiting.delete(next.key);
        begin(next);
      });
    running.set(key, { id, ending, done });
  }

  return {
    /** Runs the task as soon as there is room. @param about what asks for it, for the log. */
    run(name: string, id: string, work: Task["work"], about: object = {}): void {
      const task = { name, id, key: `${name} ${id}`, about, work };
      if (stopping.signal.aborted || running.has(task.key) || waiting.has(task.key)) return;
      if (running.size < TASKS_RUNNING_MAX) begin(task);
      else if (waiting.size < TASKS_WAITING_MAX) waiting.set(task.key, task);
      else log.warn({ task: name, key: task.key }, "background task left out: too many wait");
    },

    /** What the running tasks were started for. */
    listIds: (): string[] => [...running.values()].map(({ id }) => id),

    /** Tells the tasks for these ids to stop; those that wait are left out. */
    end(ids: ReadonlySet<string>): void {
      for (const [key, { id }] of waiting) if (ids.has(id)) waiting.delete(key);
      for (const { id, ending } of running.values()) if (ids.has(id)) ending.abort();
    },

    /** Tells all tasks to stop, and waits for them until `deadlineMs` (milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopping.abort();
      waiting.clear();
      await Promise.race([
        Promise.all([...running.values()].map(({ done }) => done)),
        Bun.sleep(Math.max(0, deadlineMs - Date.now())),
      ]);
    },
  };
}
