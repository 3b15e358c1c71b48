import { join } from "node:path";
import { addCleanup } from "./temporary.ts";

const folder = join(import.meta.dir, "../load");

export type StepResult = { [field: string]: number };
/** A step's measurements, its duration, and the CPU time of the load process. */
export type LoadResult = StepResult & { elapsedMs: number; cpuMs: number };

export type Load = { runStep(step: object): Promise<LoadResult>; stop(): Promise<void> };

/** Starts a load process, which runs one step at a time. */
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
  addCleanup(stop);
  return {
    stop,
    runStep: (step) =>
      new Promise((resolve, reject) => {
        pending = { resolve, reject };
        child.send(step);
      }),
  };
}

/** Runs in the load process: calls `work` for each step, and sends the measurements to the parent process. */
export function serveSteps<Step>(work: (step: Step) => Promise<StepResult>): void {
  process.on("message", async (step: Step) => {
    const startedAtMs = performance.now();
    const cpuBefore = process.cpuUsage();
    try {
      const measurements = await work(step);
      const { user, system } = process.cpuUsage(cpuBefore);
      process.send?.({ elapsedMs: performance.now() - startedAtMs, cpuMs: (user + system) / 1000, ...measurements });
    } catch (error) {
      console.error(error);
      process.exit(1);
    }
  });
}
