type Step = () => Promise<void> | void;

const steps: Step[] = [];

/** Runs `step` after the last test file or, in a parallel worker, after this one. */
export function atEndOfRun(step: Step): void {
  steps.push(step);
}

/** Runs all steps, the newest first; called once, by the preload. */
export async function endRun(): Promise<void> {
  for (const step of steps.splice(0).reverse()) await step();
}
