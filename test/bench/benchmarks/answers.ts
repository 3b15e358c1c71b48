import postgres from "postgres";
import type { StreamsStep } from "../load/streams.ts";
import { type AnswerPath, openAnswerPaths, type PathName } from "../support/answer-paths.ts";
import { formatAnswer, parseModelName } from "../support/answer-pieces.ts";
import { type AnswerSample, type ArrivalTimes, describeAnswers, reportAnswers } from "../support/answer-report.ts";
import { fetchIntervalP99 } from "../support/answer-servers.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { readProcessTreeCpuMs } from "../support/process-usage.ts";
import type { BenchmarkReport, Line } from "../support/report.ts";
import { runRounds } from "../support/rounds.ts";
import type { Server } from "../support/servers.ts";

/** A load in which answers start at a constant rate. */
const STEADY = { model: "50-20", streams: 400, concurrency: 100 };
/** A load in which all answers start at the same time, and none finishes before the last one has started. */
const CROWD = { model: "50-40", streams: 500 };
const { pieces: PIECES, delayMs: PIECE_DELAY_MS } = parseModelName(STEADY.model);
const INTERVAL_MS = (PIECES * PIECE_DELAY_MS) / STEADY.concurrency;

/** Maximum time until all answers are stored. */
const STORE_TIMEOUT_MS = 10_000;
const STORE_POLL_MS = 100;

/** Measures the latency that Parley adds to answers, and its CPU time per stream, compared with nginx and Portkey. */
export async function measureAnswers({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const { pid: databasePid, createDatabase } = await getPostgres();
  const databaseUrl = await createDatabase("answers");
  const streams = (rounds + 1) * (STEADY.streams + CROWD.streams);
  const models = [STEADY.model, CROWD.model];
  const { provider, paths, stop } = await openAnswerPaths({ databaseUrl, models, streams });
  const createMeasurement = (name: PathName) => () => measurePath(paths[name], provider, databasePid);
  const samples = await runRounds(
    {
      direct: createMeasurement("direct"),
      nginx: createMeasurement("nginx"),
      parley: createMeasurement("parley"),
      parleyV1: createMeasurement("parleyV1"),
      portkey: createMeasurement("portkey"),
    },
    rounds,
  );
  const incompleteAnswers: Line = {
    label: "answers that are not stored completely",
    unit: `of ${2 * streams}`,
    parley: await countIncompleteAnswers(databaseUrl, 2 * streams),
    target: { upTo: 0 },
  };
  await stop();
  return {
    lines: [...reportAnswers(samples, "parley"), ...reportAnswers(samples, "parleyV1"), incompleteAnswers],
    notes: [
      `answers: ${STEADY.streams} a round, ${PIECES} pieces each, ${PIECE_DELAY_MS} ms apart, ${STEADY.concurrency} at a time; ` +
        `then ${CROWD.streams} at once, with pieces ${parseModelName(CROWD.model).delayMs} ms apart. Only Parley stores them`,
      ...describeAnswers(samples),
    ],
  };
}

async function measurePath({ server, load }: AnswerPath, provider: Server, databasePid: number): Promise<AnswerSample> {
  const serverCpuBeforeMs = readProcessTreeCpuMs(server.pid);
  const databaseCpuBeforeMs = readProcessTreeCpuMs(databasePid);
  const { model, streams } = STEADY;
  const steady = await runStreams(load, provider, { model, streams, intervalMs: INTERVAL_MS });
  const cpuMs = (readProcessTreeCpuMs(server.pid) - serverCpuBeforeMs) / streams;
  const databaseMs = (readProcessTreeCpuMs(databasePid) - databaseCpuBeforeMs) / streams;
  return { steady, crowd: await runStreams(load, provider, { ...CROWD, intervalMs: 0 }), cpuMs, databaseMs };
}

async function runStreams(
  load: AnswerPath["load"],
  provider: Server,
  step: Omit<Extract<StreamsStep, { step: "run" }>, "step">,
): Promise<ArrivalTimes> {
  await fetchIntervalP99(provider);
  const result = await load.runStep({ step: "run", ...step } satisfies StreamsStep);
  const sentIntervals = await fetchIntervalP99(provider);
  const { p50Ms = Number.NaN, p99Ms = Number.NaN, intervalP99Ms = Number.NaN, maxConcurrent = 0 } = result;
  const { lost = Number.NaN, misplaced = Number.NaN } = result;
  return {
    p50Ms,
    p99Ms,
    pieceIntervalMs: intervalP99Ms - sentIntervals.p99Ms,
    pieceErrors: lost + misplaced,
    concurrentAnswers: maxConcurrent,
  };
}

/** Returns the number of answers that aren't stored completely. `/v1` answers can be stored after their response. */
async function countIncompleteAnswers(databaseUrl: string, expected: number): Promise<number> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const deadlineMs = performance.now() + STORE_TIMEOUT_MS;
  try {
    for (;;) {
      const [row] = await sql<{ stored: number }[]>`
        select count(*)::int as stored from messages
        where role = 'assistant' and status = 'complete' and content = ${formatAnswer(PIECES)}`;
      const missingCount = expected - (row?.stored ?? 0);
      if (missingCount === 0 || performance.now() > deadlineMs) return missingCount;
      await Bun.sleep(STORE_POLL_MS);
    }
  } finally {
    await sql.end();
  }
}
