import type { RequestsStep } from "../load/requests.ts";
import { PASSWORD, registerAccount } from "../support/account.ts";
import type { BenchmarkContext } from "../support/benchmark.ts";
import { startLoadProcess } from "../support/load.ts";
import { type BenchmarkReport, formatNumber } from "../support/report.ts";
import { medianBy, runRounds } from "../support/rounds.ts";
import { startParley } from "../support/servers.ts";

const LOGINS = 50;
const ROUND_MS = 3_000;
/** Pause between the requests of the client whose latency is measured. */
const PROBE_PAUSE_MS = 5;
const P99_MS_MAX = 20;
const UNREACHED_LIMIT = "1000000000";

type Sample = { idleP99Ms: number; busyP99Ms: number; busyP50Ms: number; busyMaxMs: number; loginsPerSecond: number };

/** Measures the latency of a minimal request during continuous logins, which hash outside the event loop. */
export async function measureLogins({ rounds, getPostgres }: BenchmarkContext): Promise<BenchmarkReport> {
  const postgres = await getPostgres();
  const parley = await startParley({
    databaseUrl: await postgres.createDatabase("logins"),
    environment: {
      RATE_LIMIT_ENABLED: "true",
      RATE_LIMIT_AUTH_PER_10S: UNREACHED_LIMIT,
      RATE_LIMIT_AUTH_PER_MINUTE: UNREACHED_LIMIT,
      LOG_LEVEL: "warn",
    },
  });
  const { email } = await registerAccount(parley.url);
  const logins = startLoadProcess("requests.ts");
  const probe = startLoadProcess("requests.ts");
  const createOpenStep = (step: Omit<Extract<RequestsStep, { step: "open" }>, "step" | "url">) =>
    ({ step: "open", url: parley.url, ...step }) satisfies RequestsStep;
  const runStep: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const credentials = {
    method: "POST",
    path: "/api/v1/auth/login",
    body: JSON.stringify({ email, password: PASSWORD }),
  };
  await logins.runStep(
    createOpenStep({
      ...credentials,
      method: "POST",
      headers: { "content-type": "application/json" },
      connections: LOGINS,
    }),
  );
  await probe.runStep(
    createOpenStep({ method: "GET", path: "/livez", headers: {}, connections: 1, pauseMs: PROBE_PAUSE_MS }),
  );

  const samples = await runRounds(
    {
      parley: async (): Promise<Sample> => {
        const idle = await probe.runStep(runStep);
        const [loginResult, busy] = await Promise.all([logins.runStep(runStep), probe.runStep(runStep)]);
        return {
          idleP99Ms: idle.p99Ms ?? Number.NaN,
          busyP50Ms: busy.p50Ms ?? Number.NaN,
          busyP99Ms: busy.p99Ms ?? Number.NaN,
          busyMaxMs: busy.maxMs ?? Number.NaN,
          loginsPerSecond: ((loginResult.requests ?? 0) / loginResult.elapsedMs) * 1_000,
        };
      },
    },
    rounds,
  );
  const lagDescription = await describeEventLoopLag(parley.url);
  await logins.stop();
  await probe.stop();
  await parley.stop();
  const getMedian = (getValue: (sample: Sample) => number) => medianBy(samples.parley, getValue);
  return {
    lines: [
      {
        label: `p99 of /livez with ${LOGINS} clients logging in`,
        unit: "ms",
        parley: getMedian(({ busyP99Ms }) => busyP99Ms),
        target: { upTo: P99_MS_MAX },
      },
      { label: "logins", unit: "a second", parley: getMedian(({ loginsPerSecond }) => loginsPerSecond) },
    ],
    notes: [
      `logins: ${LOGINS} always in flight; /livez every ${PROBE_PAUSE_MS} ms, measured by the client: ` +
        `p50 ${formatNumber(getMedian(({ busyP50Ms }) => busyP50Ms))} ms, at most ${formatNumber(getMedian(({ busyMaxMs }) => busyMaxMs))} ms; ` +
        `p99 ${formatNumber(getMedian(({ idleP99Ms }) => idleP99Ms))} ms without logins`,
      `logins: of the timers that the server monitors, ${lagDescription}`,
    ],
  };
}

/** Describes the event loop lag that the server has measured. */
async function describeEventLoopLag(url: string): Promise<string> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const readBucketCount = (bucket: string) => {
    const seriesPrefix = `parley_event_loop_lag_seconds_bucket{le="${bucket}"} `;
    return Number(
      text
        .split("\n")
        .find((line) => line.startsWith(seriesPrefix))
        ?.slice(seriesPrefix.length),
    );
  };
  return `${readBucketCount("0.01")} of ${readBucketCount("+Inf")} were at most 10 ms late, ${readBucketCount("0.025")} at most 25 ms`;
}
