// Load process: asks for streamed answers over HTTP, and notes when the first text of each arrives.
import { serveSteps } from "../support/load.ts";
import { createCountdown } from "./session.ts";
import { createStreamClient, type StreamClient } from "./stream-client.ts";

export type StreamsStep =
  | {
      step: "open";
      url: string;
      /** One for each place to ask at; they are used in turn. */
      paths: string[];
      headers: Record<string, string>;
      body: string;
      /** What the first text looks like, and what stands in the last part of a stream. */
      firstMark: string;
      lastMark: string;
    }
  | { step: "run"; streams: number; intervalMs: number };

let setup: Extract<StreamsStep, { step: "open" }>;
let client: StreamClient;
let n = 0;

function open(step: Extract<StreamsStep, { step: "open" }>) {
  setup = step;
  client = createStreamClient(step);
  return Promise.resolve({});
}

/**
 * Starts a stream every `intervalMs`; with 0, all at once. Each begins at a chance moment of its interval: else the pieces
 * of all answers would come in step, and every new question into the middle of them.
 */
async function run(streams: number, intervalMs: number) {
  const firstMs: number[] = [];
  const finished = createCountdown(streams);
  const startedAtMs = performance.now();
  for (let started = 0; started < streams; started += 1) {
    const dueAtMs = startedAtMs + (started + Math.random()) * intervalMs;
    while (performance.now() < dueAtMs) await Bun.sleep(Math.max(0, dueAtMs - performance.now()));
    n += 1;
    const askedAtMs = performance.now();
    client.ask(setup.paths[n % setup.paths.length] ?? "", {
      onFirst: () => firstMs.push(performance.now() - askedAtMs),
      onEnd: finished.step,
    });
  }
  await finished.done;
  if (firstMs.length !== streams) throw new Error(`Of ${streams} streams ${firstMs.length} had text.`);
  firstMs.sort((a, b) => a - b);
  const quantile = (share: number) => firstMs[Math.min(streams - 1, Math.floor(share * streams))] ?? Number.NaN;
  return { p50Ms: quantile(0.5), p99Ms: quantile(0.99), streams };
}

serveSteps((step: StreamsStep) => (step.step === "open" ? open(step) : run(step.streams, step.intervalMs)));
