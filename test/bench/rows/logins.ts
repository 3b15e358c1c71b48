import type { RequestsStep } from "../load/requests.ts";
import { PASSWORD, register } from "../support/account.ts";
import { startLoad } from "../support/load.ts";
import { type RowReport, show } from "../support/report.ts";
import { medianOf, runRounds } from "../support/rounds.ts";
import type { Context } from "../support/row.ts";
import { startParley } from "../support/servers.ts";

const LOGINS = 50;
const ROUND_MS = 3_000;
/** The interval of another client's minimal requests. */
const PROBE_PAUSE_MS = 5;
const P99_MS_MAX = 20;
const OUT_OF_REACH = "1000000000";

type Sample = { idleP99Ms: number; busyP99Ms: number; busyP50Ms: number; busyMaxMs: number; perSecond: number };

/** Logins hash outside the event loop: how long others wait for a minimal response during 50 continuous logins. */
export async function measureLogins({ rounds, getPostgres }: Context): Promise<RowReport> {
  const postgres = await getPostgres();
  const parley = await startParley({
    databaseUrl: await postgres.createDatabase("logins"),
    environment: {
      RATE_LIMIT_ENABLED: "true",
      RATE_LIMIT_AUTH_PER_10S: OUT_OF_REACH,
      RATE_LIMIT_AUTH_PER_MINUTE: OUT_OF_REACH,
      LOG_LEVEL: "warn",
    },
  });
  const { email } = await register(parley.url);
  const logins = startLoad("requests.ts");
  const probe = startLoad("requests.ts");
  const open = (step: Omit<Extract<RequestsStep, { step: "open" }>, "step" | "url">) =>
    ({ step: "open", url: parley.url, ...step }) satisfies RequestsStep;
  const run: RequestsStep = { step: "run", durationMs: ROUND_MS };
  const credentials = {
    method: "POST",
    path: "/api/v1/auth/login",
    body: JSON.stringify({ email, password: PASSWORD }),
  };
  await logins.ask(
    open({ ...credentials, method: "POST", headers: { "content-type": "application/json" }, connections: LOGINS }),
  );
  await probe.ask(open({ method: "GET", path: "/livez", headers: {}, connections: 1, pauseMs: PROBE_PAUSE_MS }));

  const samples = await runRounds(
    {
      parley: async (): Promise<Sample> => {
        const idle = await probe.ask(run);
        const [all, busy] = await Promise.all([logins.ask(run), probe.ask(run)]);
        return {
          idleP99Ms: idle.p99Ms ?? Number.NaN,
          busyP50Ms: busy.p50Ms ?? Number.NaN,
          busyP99Ms: busy.p99Ms ?? Number.NaN,
          busyMaxMs: busy.maxMs ?? Number.NaN,
          perSecond: ((all.requests ?? 0) / all.elapsedMs) * 1_000,
        };
      },
    },
    rounds,
  );
  const lag = await readLag(parley.url);
  await logins.stop();
  await probe.stop();
  await parley.stop();
  const of = (read: (sample: Sample) => number) => medianOf(samples.parley, read);
  return {
    lines: [
      {
        what: `p99 of /livez while ${LOGINS} log in`,
        unit: "ms",
        parley: of(({ busyP99Ms }) => busyP99Ms),
        bound: { upTo: P99_MS_MAX },
      },
      { what: "logins", unit: "a second", parley: of(({ perSecond }) => perSecond) },
    ],
    notes: [
      `logins: ${LOGINS} always on their way; /livez every ${PROBE_PAUSE_MS} ms, seen from outside: ` +
        `p50 ${show(of(({ busyP50Ms }) => busyP50Ms))} ms, at most ${show(of(({ busyMaxMs }) => busyMaxMs))} ms; ` +
        `p99 ${show(of(({ idleP99Ms }) => idleP99Ms))} ms while nobody logs in`,
      `logins: of the timers that the server watches, ${lag}`,
    ],
  };
}

/** The server's own measurement of its event loop lag, over the whole test. */
async function readLag(url: string): Promise<string> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const read = (bucket: string) => {
    const start = `parley_event_loop_lag_seconds_bucket{le="${bucket}"} `;
    return Number(
      text
        .split("\n")
        .find((line) => line.startsWith(start))
        ?.slice(start.length),
    );
  };
  return `${read("0.01")} of ${read("+Inf")} were at most 10 ms late, ${read("0.025")} at most 25 ms`;
}
