import { join } from "node:path";
import { onEnd } from "./temporary.ts";

const folder = join(import.meta.dir, "../load");

export type LoadReply = { [field: string]: number };
/** The result for the parent: the measurements of the step, and the cost of the load process itself. */
export type LoadResult = LoadReply & { elapsedMs: number; cpuMs: number };

export type Load = { ask(step: object): Promise<LoadResult>; stop(): Promise<void> };

/** Starts a load process: a separate Bun that runs one step after the other. */
export function startLoad(file: string): Load {
  let pending: { resolve(result: LoadResult): void; reject(error: Error): void } | undefined;
  const child = Bun.spawn([process.execPath, join(folder, file)], {
    stdio: ["ignore", "inherit", "inherit"],
    ipc(result: LoadResult) {
      pending?.resolve(result);
      pending = undefined;
    },
    onExit: (_child, code) => pending?.reject(new Error(`${file} exited with ${code}.`)),
  });
  const stop = async () => {
    child.kill();
    await child.exited;
  };
  onEnd(stop);
  return {
    stop,
    ask: (step) =>
      new Promise((resolve, reject) => {
        pending = { resolve, reject };
        child.send(step);
      }),
  };
}

/** The other end: runs in the load process, and responds to each step with the results of `work`. */
export function serveSteps<Step>(work: (step: Step) => Promise<LoadReply>): void {
  process.on("message", async (step: Step) => {
    const startedAtMs = performance.now();
    const cpuBefore = process.cpuUsage();
    try {
      const reply = await work(step);
      const { user, system } = process.cpuUsage(cpuBefore);
      process.send?.({ elapsedMs: performance.now() - startedAtMs, cpuMs: (user + system) / 1000, ...reply });
    } catch (error) {
      console.error(error);
      process.exit(1);
    }
  });
}
