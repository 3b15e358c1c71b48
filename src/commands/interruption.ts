import { CommandError } from "./command.ts";

/**
 * Runs `work` with a signal that SIGINT (Ctrl-C) and SIGTERM abort, so that it can clean up. A second one kills the process.
 * The signal's reason is a CommandError with `sentence`.
 */
export async function withInterruption<T>(
  sentence: string,
  work: (signal: AbortSignal) => Promise<T>,
  signals: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"],
): Promise<T> {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(1);
    controller.abort(new CommandError(sentence));
  };
  for (const signal of signals) process.on(signal, stop);
  try {
    return await work(controller.signal);
  } finally {
    for (const signal of signals) process.off(signal, stop);
  }
}
