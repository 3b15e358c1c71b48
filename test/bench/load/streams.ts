// Load process: requests streamed answers over HTTP, and measures when each piece arrives.

import { countPieceErrors, parseModelName } from "../support/answer-pieces.ts";
import { serveSteps } from "../support/load.ts";
import { quantile } from "../support/quantile.ts";
import { type AnswerFormat, type Packet, parseAnswer } from "./recorded-answer.ts";
import { createCountdown } from "./session.ts";
import { createStreamClient, type StreamClient } from "./stream-client.ts";

export type StreamsStep =
  | {
      step: "open";
      url: string;
      headers: Record<string, string>;
      /** Sent in rotation. `MODEL` in a body is replaced by the step's model. */
      requests: { path: string; body: string }[];
      format: AnswerFormat;
    }
  | { step: "run"; streams: number; intervalMs: number; model: string };

type Stream = { requestedAtMs: number; packets: Packet[] };

let setup: Extract<StreamsStep, { step: "open" }>;
let client: StreamClient;
let requestCount = 0;

function open(step: Extract<StreamsStep, { step: "open" }>) {
  setup = step;
  client = createStreamClient(step);
  return Promise.resolve({});
}

/**
 * Starts one stream per interval, or all streams at the same time if the interval is 0. Each stream starts at a random
 * time within its interval, so that the pieces of different answers aren't synchronized.
 */
async function run({ streams, intervalMs, model }: Extract<StreamsStep, { step: "run" }>) {
  const recorded: Stream[] = [];
  const finished = createCountdown(streams);
  const startedAtMs = performance.now();
  for (let started = 0; started < streams; started += 1) {
    const dueAtMs = startedAtMs + (started + Math.random()) * intervalMs;
    while (performance.now() < dueAtMs) await Bun.sleep(Math.max(0, dueAtMs - performance.now()));
    requestCount += 1;
    const requestedAtMs = performance.now();
    const { path, body } = setup.requests[requestCount % setup.requests.length] ?? { path: "", body: "" };
    client.request(path, body.replace("MODEL", model), {
      onEnd(packets) {
        recorded.push({ requestedAtMs: requestedAtMs, packets });
        finished.countDown();
      },
    });
  }
  await finished.done;
  return summarize(recorded, parseModelName(model).pieces);
}

/** Summarizes the streams. `maxConcurrent` is the maximum number of answers in progress at the same time. */
function summarize(streams: Stream[], pieces: number) {
  const firstMs: number[] = [];
  const intervalsMs: number[] = [];
  const spans: { fromMs: number; untilMs: number }[] = [];
  let lost = 0;
  let misplaced = 0;
  for (const { requestedAtMs, packets } of streams) {
    const answer = parseAnswer(packets, setup.format);
    if (!answer.isComplete) throw new Error(`A stream ended early: ${packets.map(({ text }) => text).join("")}`);
    for (const text of [answer.text, answer.finalText ?? answer.text]) {
      const errors = countPieceErrors(text, pieces);
      lost += errors.lost;
      misplaced += errors.misplaced;
    }
    const times = answer.pieceAtMs;
    const fromMs = times[0] ?? Number.NaN;
    firstMs.push(fromMs - requestedAtMs);
    for (let index = 1; index < times.length; index += 1)
      intervalsMs.push((times[index] ?? Number.NaN) - (times[index - 1] ?? Number.NaN));
    spans.push({ fromMs, untilMs: times.at(-1) ?? Number.NaN });
  }
  return {
    p50Ms: quantile(firstMs, 0.5),
    p99Ms: quantile(firstMs, 0.99),
    intervalP99Ms: quantile(intervalsMs, 0.99),
    lost,
    misplaced,
    maxConcurrent: countMaxConcurrent(spans),
    streams: streams.length,
  };
}

function countMaxConcurrent(spans: { fromMs: number; untilMs: number }[]): number {
  const countRunning = (atMs: number) => spans.filter(({ fromMs, untilMs }) => fromMs <= atMs && atMs < untilMs).length;
  return Math.max(...spans.map(({ fromMs }) => countRunning(fromMs)));
}

serveSteps((step: StreamsStep) => (step.step === "open" ? open(step) : run(step)));
