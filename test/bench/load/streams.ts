// Load process: requests streamed answers over HTTP, and records when each piece arrives.
import { serveSteps } from "../support/load.ts";
import { findDamage, readModel } from "../support/pieces.ts";
import { quantile } from "../support/quantile.ts";
import { type AnswerFormat, type Packet, readAnswer } from "./recorded-answer.ts";
import { createCountdown } from "./session.ts";
import { createStreamClient, type StreamClient } from "./stream-client.ts";

export type StreamsStep =
  | {
      step: "open";
      url: string;
      headers: Record<string, string>;
      /** They are sent in turn. `MODEL` in a body stands for the model of the step. */
      requests: { path: string; body: string }[];
      format: AnswerFormat;
    }
  | { step: "run"; streams: number; intervalMs: number; model: string };

type Stream = { askedAtMs: number; packets: Packet[] };

let setup: Extract<StreamsStep, { step: "open" }>;
let client: StreamClient;
let n = 0;

function open(step: Extract<StreamsStep, { step: "open" }>) {
  setup = step;
  client = createStreamClient(step);
  return Promise.resolve({});
}

/**
 * Starts a stream every `intervalMs`; with 0, all at once. Each starts at a random moment of its interval: otherwise the
 * pieces of all answers would be synchronized, and every new request would arrive between them.
 */
async function run({ streams, intervalMs, model }: Extract<StreamsStep, { step: "run" }>) {
  const recorded: Stream[] = [];
  const finished = createCountdown(streams);
  const startedAtMs = performance.now();
  for (let started = 0; started < streams; started += 1) {
    const dueAtMs = startedAtMs + (started + Math.random()) * intervalMs;
    while (performance.now() < dueAtMs) await Bun.sleep(Math.max(0, dueAtMs - performance.now()));
    n += 1;
    const askedAtMs = performance.now();
    const { path, body } = setup.requests[n % setup.requests.length] ?? { path: "", body: "" };
    client.ask(path, body.replace("MODEL", model), {
      onEnd(packets) {
        recorded.push({ askedAtMs, packets });
        finished.step();
      },
    });
  }
  await finished.done;
  return judge(recorded, readModel(model).pieces);
}

/** Times in milliseconds; `atOnce` is the maximum number of answers in progress. */
function judge(streams: Stream[], pieces: number) {
  const firstMs: number[] = [];
  const distancesMs: number[] = [];
  const spans: { fromMs: number; untilMs: number }[] = [];
  let lost = 0;
  let misplaced = 0;
  for (const { askedAtMs, packets } of streams) {
    const answer = readAnswer(packets, setup.format);
    if (!answer.isComplete) throw new Error(`A stream ended early: ${packets.map(({ text }) => text).join("")}`);
    for (const text of [answer.text, answer.finalText ?? answer.text]) {
      const damage = findDamage(text, pieces);
      lost += damage.lost;
      misplaced += damage.misplaced;
    }
    const times = answer.pieceAtMs;
    const fromMs = times[0] ?? Number.NaN;
    firstMs.push(fromMs - askedAtMs);
    for (let index = 1; index < times.length; index += 1)
      distancesMs.push((times[index] ?? Number.NaN) - (times[index - 1] ?? Number.NaN));
    spans.push({ fromMs, untilMs: times.at(-1) ?? Number.NaN });
  }
  return {
    p50Ms: quantile(firstMs, 0.5),
    p99Ms: quantile(firstMs, 0.99),
    distanceP99Ms: quantile(distancesMs, 0.99),
    lost,
    misplaced,
    atOnce: countAtOnce(spans),
    streams: streams.length,
  };
}

function countAtOnce(spans: { fromMs: number; untilMs: number }[]): number {
  const running = (atMs: number) => spans.filter(({ fromMs, untilMs }) => fromMs <= atMs && atMs < untilMs).length;
  return Math.max(...spans.map(({ fromMs }) => running(fromMs)));
}

serveSteps((step: StreamsStep) => (step.step === "open" ? open(step) : run(step)));
