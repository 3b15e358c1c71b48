import { join } from "node:path";
import { addCleanup } from "./temporary.ts";

const loadFolder = join(import.meta.dir, "../load");

export type StepResult = { [field: string]: number };
/** A step's measurements, its duration, and the CPU time of the load process. */
export type LoadResult = StepResult & { elapsedMs: number; cpuMs: number };

export type LoadProcess = { runStep(step: object): Promise<LoadResult>; stop(): Promise<void> };

/** Starts a load process, which runs one step at a time. */
export function startLoadProcess(file: string): LoadProcess {
  let pendingStep: { resolve(result: LoadResult): void; reject(error: Error): void } | undefined;
  const child = Bun.spawn([process.execPath, join(loadFolder, file)], {
    stdio: ["ignore", "inherit", "inherit"],
    ipc(result: LoadResult) {
      pendingStep?.resolve(result);
      pendingStep = undefined;
    },
    onExit: (_child, code) => pendingStep?.reject(new Error(`${file} exited with ${code}.`)),
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
        pendingStep = { resolve, reject };
        child.send(step);
      }),
  };
}

/** Runs in the load process: calls `runStep` for each step, and sends the measurements to the parent process. */
export function serveSteps<Step>(runStep: (step: Step) => Promise<StepResult>): void {
  process.on("message", async (step: Step) => {
    const startedAtMs = performance.now();
    const cpuBefore = process.cpuUsage();
    try {
      const measurements = await runStep(step);
      const { user, system } = process.cpuUsage(cpuBefore);
      process.send?.({ elapsedMs: performance.now() - startedAtMs, cpuMs: (user + system) / 1000, ...measurements });
    } catch (error) {
      console.error(error);
      process.exit(1);
    }
  });
}
