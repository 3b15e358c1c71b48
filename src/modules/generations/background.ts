import type { Log } from "../../lib/log.ts";

/** Maximum number of concurrent tasks. */
const TASKS_RUNNING_MAX = 8;
/** Maximum number of queued tasks. Further tasks are skipped. */
const TASKS_QUEUED_MAX = 1_000;

type Task = {
  name: string;
  conversationId: string;
  key: string;
  logFields: object;
  work(signal: AbortSignal): Promise<void>;
};

/**
 * Creates a queue of best-effort background tasks for conversations. A task is skipped if a task with the same name is running or queued
 * for the same conversation. Failures are only logged.
 */
export function createBackgroundQueue({ log }: { log: Log }) {
  const stopController = new AbortController();
  const runningTasks = new Map<
    string,
    { conversationId: string; abortController: AbortController; done: Promise<void> }
  >();
  const queuedTasks = new Map<string, Task>();

  function startTask({ name, conversationId, key, logFields, work }: Task): void {
    const abortController = new AbortController();
    const done = work(AbortSignal.any([stopController.signal, abortController.signal]))
      .catch((error) => log.warn({ err: error, ...logFields, task: name, key }, "background task failed"))
      .finally(() => {
        runningTasks.delete(key);
        const [next] = queuedTasks.values();
        if (!next || stopController.signal.aborted) return;
        queuedTasks.delete(next.key);
        startTask(next);
      });
    runningTasks.set(key, { conversationId, abortController, done });
  }

  return {
    /** Runs a task when a slot is free. @param logFields fields for its log lines. */
    run(name: string, conversationId: string, work: Task["work"], logFields: object = {}): void {
      const task = { name, conversationId, key: `${name} ${conversationId}`, logFields, work };
      if (stopController.signal.aborted || runningTasks.has(task.key) || queuedTasks.has(task.key)) return;
      if (runningTasks.size < TASKS_RUNNING_MAX) startTask(task);
      else if (queuedTasks.size < TASKS_QUEUED_MAX) queuedTasks.set(task.key, task);
      else log.warn({ task: name, key: task.key }, "background task skipped: the queue is full");
    },

    /** Lists the ids of the conversations with running tasks. */
    listConversationIds: (): string[] => [...runningTasks.values()].map(({ conversationId }) => conversationId),

    /** Aborts these conversations' running tasks and removes their queued ones. */
    abortWork(conversationIds: ReadonlySet<string>): void {
      for (const [key, { conversationId }] of queuedTasks)
        if (conversationIds.has(conversationId)) queuedTasks.delete(key);
      for (const { conversationId, abortController } of runningTasks.values())
        if (conversationIds.has(conversationId)) abortController.abort();
    },

    /** Aborts all tasks and waits for them until `deadlineMs` (milliseconds since 1970). */
    async stop(deadlineMs: number): Promise<void> {
      stopController.abort();
      queuedTasks.clear();
      await Promise.race([
        Promise.all([...runningTasks.values()].map(({ done }) => done)),
        Bun.sleep(Math.max(0, deadlineMs - Date.now())),
      ]);
    },
  };
}
