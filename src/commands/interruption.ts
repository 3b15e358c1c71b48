import { CommandError } from "./command.ts";

/**
 * Runs `work` with an abort signal. The first SIGINT (Ctrl-C) or SIGTERM aborts the signal, so that `work` can clean up. The
 * second one exits the process. The abort reason is a CommandError with `message`.
 */
export async function runInterruptibly<T>(
  message: string,
  work: (signal: AbortSignal) => Promise<T>,
  signals: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"],
): Promise<T> {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(1);
    controller.abort(new CommandError(message));
  };
  for (const signal of signals) process.on(signal, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
