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

function createClient(step: Extract<StreamsStep, { step: "open" }>) {
  setup = step;
  client = createStreamClient(step);
  return Promise.resolve({});
}

/**
 * Starts one stream per interval, or all streams at the same time if the interval is 0. Each stream starts at a random
 * time within its interval, so that the pieces of different answers aren't synchronized.
 */
async function recordStreams({ streams, intervalMs, model }: Extract<StreamsStep, { step: "run" }>) {
  const finishedStreams: Stream[] = [];
  const finished = createCountdown(streams);
  const startedAtMs = performance.now();
  for (let startedCount = 0; startedCount < streams; startedCount += 1) {
    const dueAtMs = startedAtMs + (startedCount + Math.random()) * intervalMs;
    while (performance.now() < dueAtMs) await Bun.sleep(Math.max(0, dueAtMs - performance.now()));
    requestCount += 1;
    const requestedAtMs = performance.now();
    const { path, body } = setup.requests[requestCount % setup.requests.length] ?? { path: "", body: "" };
    client.sendRequest(path, body.replace("MODEL", model), {
      onEnd(packets) {
        finishedStreams.push({ requestedAtMs, packets });
        finished.countDown();
      },
    });
  }
  await finished.done;
  return summarizeStreams(finishedStreams, parseModelName(model).pieces);
}

/** Summarizes the streams. `maxConcurrent` is the maximum number of answers in progress at the same time. */
function summarizeStreams(streams: Stream[], pieces: number) {
  const firstPieceDelaysMs: number[] = [];
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
    const { pieceAtMs } = answer;
    const fromMs = pieceAtMs[0] ?? Number.NaN;
    firstPieceDelaysMs.push(fromMs - requestedAtMs);
    for (let index = 1; index < pieceAtMs.length; index += 1)
      intervalsMs.push((pieceAtMs[index] ?? Number.NaN) - (pieceAtMs[index - 1] ?? Number.NaN));
    spans.push({ fromMs, untilMs: pieceAtMs.at(-1) ?? Number.NaN });
  }
  return {
    p50Ms: quantile(firstPieceDelaysMs, 0.5),
    p99Ms: quantile(firstPieceDelaysMs, 0.99),
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

serveSteps((step: StreamsStep) => (step.step === "open" ? createClient(step) : recordStreams(step)));
