import postgres from "postgres";
import type { StreamsStep } from "../load/streams.ts";
import { type AnswerSample, type Arrival, describeAnswers, reportAnswers } from "../support/answer-report.ts";
import { readSentDistances } from "../support/answer-servers.ts";
import { type AnswerSide, openAnswerSides, type SideName } from "../support/answer-sides.ts";
import { answerText, readModel } from "../support/pieces.ts";
import { readFamilyCpuMs } from "../support/process-usage.ts";
import type { Line, RowReport } from "../support/report.ts";
import { runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import type { Server } from "../support/servers.ts";

/** Answers at a steady rate: as many begin as end. */
const STEADY = { model: "50-20", streams: 400, atOnce: 100 };
/** Answers that begin at once, and last long enough to be all in progress at the same time. */
const CROWD = { model: "50-40", streams: 500 };
const { pieces: PIECES, delayMs: PIECE_DELAY_MS } = readModel(STEADY.model);
const INTERVAL_MS = (PIECES * PIECE_DELAY_MS) / STEADY.atOnce;

/** The timeout for storing an answer after its end. */
const STORE_TIMEOUT_MS = 10_000;
const STORE_POLL_MS = 100;

/** Answers of models: the latency that Parley adds, and the cost of a stream, compared with nginx, which stores nothing. */
export async function measureAnswers({ rounds, getPostgres }: Context): Promise<RowReport> {
  const { pid: databasePid, createDatabase } = await getPostgres();
  const databaseUrl = await createDatabase("answers");
  const streams = (rounds + 1) * (STEADY.streams + CROWD.streams);
  const models = [STEADY.model, CROWD.model];
  const { provider, sides, stop } = await openAnswerSides({ databaseUrl, models, streams });
  const measureSide = (name: SideName) => () => measure(sides[name], provider, databasePid);
  const samples = await runRounds(
    {
      direct: measureSide("direct"),
      nginx: measureSide("nginx"),
      parley: measureSide("parley"),
      parleyV1: measureSide("parleyV1"),
      portkey: measureSide("portkey"),
    },
    rounds,
  );
  const stored: Line = {
    what: "answers that are not stored whole",
    unit: `of ${2 * streams}`,
    parley: await countUnstored(databaseUrl, 2 * streams),
    bound: { upTo: 0 },
  };
  await stop();
  return {
    lines: [...reportAnswers(samples, "parley"), ...reportAnswers(samples, "parleyV1"), stored],
    notes: [
      `answers: ${STEADY.streams} a round, ${PIECES} pieces each, ${PIECE_DELAY_MS} ms apart, ${STEADY.atOnce} at a time; ` +
        `then ${CROWD.streams} at once, with pieces ${readModel(CROWD.model).delayMs} ms apart. Only Parley stores them`,
      ...describeAnswers(samples),
    ],
  };
}

async function measure({ server, load }: AnswerSide, provider: Server, databasePid: number): Promise<AnswerSample> {
  const cpuBefore = readFamilyCpuMs(server.pid);
  const databaseBefore = readFamilyCpuMs(databasePid);
  const { model, streams } = STEADY;
  const steady = await run(load, provider, { model, streams, intervalMs: INTERVAL_MS });
  const cpuMs = (readFamilyCpuMs(server.pid) - cpuBefore) / streams;
  const databaseMs = (readFamilyCpuMs(databasePid) - databaseBefore) / streams;
  return { steady, crowd: await run(load, provider, { ...CROWD, intervalMs: 0 }), cpuMs, databaseMs };
}

async function run(
  load: AnswerSide["load"],
  provider: Server,
  step: Omit<Extract<StreamsStep, { step: "run" }>, "step">,
): Promise<Arrival> {
  await readSentDistances(provider);
  const result = await load.ask({ step: "run", ...step } satisfies StreamsStep);
  const sent = await readSentDistances(provider);
  const { p50Ms = Number.NaN, p99Ms = Number.NaN, distanceP99Ms = Number.NaN, atOnce = 0 } = result;
  const { lost = Number.NaN, misplaced = Number.NaN } = result;
  return { p50Ms, p99Ms, distanceMs: distanceP99Ms - sent.p99Ms, damaged: lost + misplaced, atOnce };
}

/** The number of answers that are not stored completely. Those of `/v1` may be stored a moment after their end. */
async function countUnstored(databaseUrl: string, expected: number): Promise<number> {
  const sql = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  const endsAtMs = performance.now() + STORE_TIMEOUT_MS;
  try {
    for (;;) {
      const [row] = await sql<{ stored: number }[]>`
        select count(*)::int as stored from messages
        where role = 'assistant' and status = 'complete' and content = ${answerText(PIECES)}`;
      const left = expected - (row?.stored ?? 0);
      if (left === 0 || performance.now() > endsAtMs) return left;
      await Bun.sleep(STORE_POLL_MS);
    }
  } finally {
    await sql.end();
  }
}
